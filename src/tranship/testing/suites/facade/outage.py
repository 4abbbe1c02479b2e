"""Clients and workers whose broker is really away: killed, cut off, or silent."""

from __future__ import annotations

import asyncio
from typing import Any

from tranship.errors import SubmitTimeout, SubmitUnknown
from tranship.ports import Capability
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import FacadeClient
from tranship.testing.suites.facade.submit import echo
from tranship.testing.suites.ports.recovery import Ledger, back, need_restart

__all__ = ["FacadeOutageCases", "counted"]

RESULTS = {Capability.RESULTS}
DURABLE = {Capability.DURABLE, Capability.CROSS_PROCESS}
LEASED = {Capability.RESULTS, Capability.LEASE}
_TASKS = 40


class FacadeOutageCases:
    """Part of the facade's suite."""

    @facade_case(
        "submit_over_restart",
        level="capability",
        needs=DURABLE,
        rationale="a request that comes while the broker restarts must not fail, nor run twice",
        limit=120,
    )
    async def test_submit_over_restart(self, facade: FacadeContext) -> None:
        """Killed under four callers: with time enough each submit succeeds, and each task is there once."""
        need_restart(facade.context)
        client = await facade.client(submit_timeout=back(facade.context))
        ids: list[str] = []
        over = asyncio.Event()
        callers = [facade.context.start(_submit_until(facade, client, over, ids)) for _ in range(4)]
        await facade.until_long(ids, 20)
        await facade.context.harness.restart()
        over.set()
        told = [one for caller in callers for one in await asyncio.wait_for(caller, 2 * back(facade.context))]
        ledger = Ledger()
        await ledger.take(facade.context, (await facade.context.open()).consumer(["q"]))
        assert {ledger.came[task_id] for task_id in ids} == {1}, ledger.came.most_common(1)
        assert max(ledger.came.values()) == 1
        # Where nobody can know, it was said so.
        assert set(ledger.came) <= set(ids) | set(told)

    @facade_case(
        "result_over_lost_connection",
        level="capability",
        needs=RESULTS,
        rationale="an outage shorter than a wait is nothing",
        limit=120,
    )
    async def test_result_over_lost_connection(self, facade: FacadeContext) -> None:
        """Cut off, then in silence, while the result is stored: who waited before gets it, who submits later, too."""
        proxy = facade.context.proxy()
        client, other = await facade.client(via=proxy), await facade.client()
        for harm in (proxy.reset, proxy.blackhole):
            handle = await client.submit(echo, "kept")
            waiting = facade.context.start(handle.result(4 * back(facade.context)))
            await facade.until_waited_for(client)
            harm()
            worker = await facade.work(echo)
            await facade.context.eventually(other.handle(handle.id).ready, "the task has ended")
            await facade.stop(worker)
            proxy.heal()
            assert await waiting == "kept"

    @facade_case(
        "results_over_restart",
        level="capability",
        needs=DURABLE | LEASED,
        rationale="a batch that is half done when the broker dies is a batch, not a loss",
        limit=120,
    )
    async def test_results_over_restart(self, facade: FacadeContext) -> None:
        """Killed in the middle of a batch: the worker goes on, and the one who waits gets every result."""
        need_restart(facade.context)
        runs, work = counted()
        client = await facade.client(lease=2)
        await facade.work(work, lease=2, max_concurrent_tasks=5)
        handles = await client.submit_many(work.call(number) for number in range(_TASKS))
        collecting = facade.context.start(client.collect(handles, 4 * back(facade.context)))
        await facade.until_long(runs, _TASKS // 4)
        await facade.context.harness.restart()
        found = await collecting
        assert [one.value for one in found] == list(range(_TASKS))


def counted() -> tuple[list[int], Any]:
    """A task that notes its runs and takes a moment."""
    runs: list[int] = []

    @task(name="kit.counted", queue="q")
    async def work(number: int) -> int:
        runs.append(number)
        await asyncio.sleep(0.02)
        return number

    return runs, work


async def _submit_until(facade: FacadeContext, client: FacadeClient, over: asyncio.Event, ids: list[str]) -> list[str]:
    """Submit until it is over, and once more; return the ids of which nobody can say what became."""
    unknown: list[str] = []
    while True:
        last = over.is_set()
        try:
            ids.append((await client.submit(echo, 1)).id)
        except SubmitUnknown as error:
            unknown.append(str(error.task_id))
        except SubmitTimeout as error:
            raise AssertionError(f"not submitted although the broker was back: {error}") from error
        if last:
            return unknown
        await facade.context.pass_time(0.005)
