"""Workers whose clocks are wrong: the broker's decides, where it has one."""

from __future__ import annotations

import time
from typing import Any, Final

from tranship.clocks import TellsTime
from tranship.driver import DriverBackend, TellingTime
from tranship.ports import Backend, Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.testing.context import CaseContext
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.process import Child

__all__ = ["ClockCases"]

NEEDS: Final = {Capability.DELAY, Capability.CROSS_PROCESS}
WRONG: Final = 30.0
"""Seconds; more than a case waits."""
DELAY: Final = 1.5


class ClockCases:
    """Part of the worker's suite; the workers are processes with clocks of their own."""

    @worker_case(
        "delay_under_a_slow_clock",
        level="capability",
        needs=NEEDS,
        rationale="who is slow sent what is due back again and again, until his clock said so, too",
    )
    async def test_delay_under_a_slow_clock(self, facade: FacadeContext) -> None:
        """A worker 30 s behind runs delayed tasks and retries at their time, and what has expired not at all."""
        await _observed(facade, -WRONG)

    @worker_case(
        "delay_under_a_fast_clock",
        level="capability",
        needs=NEEDS,
        rationale="who is fast ran reminders early, and put retries off",
    )
    async def test_delay_under_a_fast_clock(self, facade: FacadeContext) -> None:
        """A worker 30 s ahead runs delayed tasks and retries at their time, and what has not expired yet."""
        await _observed(facade, WRONG)

    @worker_case(
        "delay_under_clocks_that_differ",
        level="capability",
        needs=NEEDS,
        rationale="what one moves to its queue too early the other sends back for ever",
    )
    async def test_delay_under_clocks_that_differ(self, facade: FacadeContext) -> None:
        """A slow and a fast worker on one queue: every task at its time, once."""
        await _observed(facade, -WRONG, WRONG)


async def _observed(facade: FacadeContext, *wrong_by: float) -> None:
    context = facade.context
    backend = await context.open()
    if backend.capabilities[Capability.DELAY].properties.get("clock") == "host":
        context.skip("broker and workers have one clock, their host's")
    await backend.ensure(["q"])
    told: list[tuple[float, Any]] = []
    for seconds in wrong_by:
        child = await context.child("serve", url=context.url(), queue="q", wrong_by=seconds)
        context.start(_hear(child, told))
    await context.submit(backend, context.message(task="kit.said", args=("at once",), store_result=False))
    await facade.until(lambda: _times(told, "at once") != [], "a worker is at work")
    now = time.time()
    policy = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.5))
    messages = [
        context.message(task="kit.said", args=("delayed",), not_before=now + DELAY, store_result=False),
        context.message(task="kit.twice", args=("retried",), retry=policy, store_result=False),
    ]
    if await _tells(context, backend):
        # By the broker's clock one has time and the other is over; without one the worker's own decides.
        messages.append(
            context.message(task="kit.said", args=("in time",), deadline=now + WRONG / 2, store_result=False)
        )
        messages.append(
            context.message(task="kit.said", args=("too late",), deadline=now - WRONG / 2, store_result=False)
        )
        await facade.context.submit(backend, *messages)
        await facade.until(lambda: _times(told, "in time") != [], "what has not expired runs")
    else:
        await facade.context.submit(backend, *messages)
    await facade.until(lambda: len(_times(told, ["retried", 1])) > 0, "the second attempt follows the first")
    await facade.until(lambda: _times(told, "delayed") != [], "what is due runs")
    early = now + DELAY - _times(told, "delayed")[0]
    assert early < 0.1, f"it ran {early:.2f} s before its time"
    first, second = _times(told, ["retried", 0])[0], _times(told, ["retried", 1])[0]
    assert second - first > 0.3, f"the second attempt came {second - first:.2f} s after the first, not half a second"
    ran = sorted(str(what) for _, what in told)
    assert ran == sorted({*ran}), f"something ran twice: {ran}"
    assert _times(told, "too late") == [], "what had expired was run"


async def _tells(context: CaseContext, backend: Backend) -> bool:
    """Whether the broker has a clock of its own."""
    if isinstance(backend, DriverBackend):
        return isinstance(await context.connect(), TellingTime)
    return isinstance(backend, TellsTime)


async def _hear(child: Child, told: list[tuple[float, Any]]) -> None:
    while (what := await child.line_or_end(within=60.0)) is not None:
        told.append((time.time(), what))


def _times(told: list[tuple[float, Any]], what: Any) -> list[float]:
    return [at for at, one in told if one == what]
