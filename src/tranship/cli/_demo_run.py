"""The story of ``tranship demo``: a producer here, a worker in another process, and what became of every task."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tranship.cli._demo_tasks import echo, flaky, hopeless, long, work
from tranship.cli._demo_worker import worker_process
from tranship.client import AsyncClient, AsyncTaskHandle
from tranship.envelope import Priority, TaskResult, TaskState
from tranship.errors import TranshipError, UnsupportedError
from tranship.ports import Capability
from tranship.settings import Settings
from tranship.task import TaskCall

__all__ = ["CANCEL_KEY", "DemoError", "DemoReport", "run_demo"]

WORK = {Priority.LOW: 60, Priority.NORMAL: 60, Priority.HIGH: 40}
"""How many at each level, in the order of submission: the most urgent last."""
FLAKY = 20
LONG = 2
ROUND_TRIPS = 30
CANCEL_KEY = "demo-cancel"
CANCEL_AFTER = 20
"""Results that have to be in before the cancel."""
BOUND = 60.0
"""Seconds for everything together."""

EXPECTED = {
    TaskState.SUCCESS: sum(WORK.values()) + FLAKY,
    TaskState.CANCELLED: LONG,
    TaskState.DEAD_LETTERED: 1,
}
TOTAL = sum(EXPECTED.values())


class DemoError(TranshipError):
    """The demo did not go as it should.

    Attributes:
        detail: the last lines of the worker's log.
    """

    code = "DEMO"

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(slots=True, kw_only=True)
class DemoReport:
    """What happened; times are seconds."""

    submitted: int = 0
    submit_seconds: float = 0.0
    first_seconds: float = 0.0
    """From the worker's start to the first result."""
    work_seconds: float = 0.0
    """From the first result to the last."""
    states: Counter[TaskState] = field(default_factory=Counter)
    places: dict[Priority, list[int]] = field(default_factory=dict)
    """In which places tasks of a level were finished."""
    retried: int = 0
    cancelled_running: int = 0
    dead: TaskResult | None = None
    round_trips: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many tasks have ended."""
        return sum(self.states.values())


Handles = dict[AsyncTaskHandle[Any], Priority | None]
Progress = Callable[[DemoReport], None]
Say = Callable[[str], None]


async def run_demo(settings: Settings, log: Path, *, say: Say, progress: Progress) -> DemoReport:
    """Run the demo within a bound.

    Args:
        settings: where.
        log: the worker's.
        say: called with one sentence per step.
        progress: called after each result.

    Raises:
        DemoError: it did not go as it should.
        TranshipError: what the client raises.
    """
    report = DemoReport()
    try:
        async with asyncio.timeout(BOUND), AsyncClient(settings=settings) as client:
            _check(client)
            await _play(client, log, report, say, progress)
    except TimeoutError:
        raise DemoError(
            f"not done within {BOUND:g} s: {report.done} of {TOTAL} tasks ended", detail=_tail(log)
        ) from None
    if report.states != EXPECTED:
        raise DemoError(f"tasks ended as {_counts(report.states)}; expected {_counts(EXPECTED)}", detail=_tail(log))
    return report


def _check(client: AsyncClient) -> None:
    capabilities = client.capabilities
    for needed in (Capability.CROSS_PROCESS, Capability.RESULTS, Capability.CONTROL):
        if not capabilities.has(needed):
            raise UnsupportedError(f"the demo needs a broker with {needed}, which {client.settings.broker_url} has not")


async def _play(client: AsyncClient, log: Path, report: DemoReport, say: Say, progress: Progress) -> None:
    handles = await _submit(client, report)
    say(f"submitted {report.submitted} tasks in {report.submit_seconds * 1000:.0f} ms, the most urgent last")
    async with worker_process(client.settings, log) as process:
        say(f"started a worker in process {process.pid}")
        await _unless_it_ends(process, log, _follow(client, handles, report, say, progress))
        say("measuring round trips, one at a time")
        await _unless_it_ends(process, log, _measure(client, report))
    if process.returncode:
        raise DemoError(f"the worker ended with exit code {process.returncode}", detail=_tail(log))


async def _submit(client: AsyncClient, report: DemoReport) -> Handles:
    doomed = long.options(cancel_key=CANCEL_KEY)
    # One that will be running when it is cancelled, and one that will not.
    calls: list[tuple[TaskCall[Any], Priority | None]] = [
        (doomed.options(priority="high").call(600.0), None),
        (doomed.options(delay=600.0).call(600.0), None),
    ]
    for level, count in WORK.items():
        calls += [(work.options(priority=level).call(number), level) for number in range(count)]
    calls += [(flaky.call(number), None) for number in range(FLAKY)]
    calls.append((hopeless.call(), None))
    begun = time.perf_counter()
    handles = await client.submit_many(call for call, _ in calls)
    report.submit_seconds, report.submitted = time.perf_counter() - begun, len(handles)
    return dict(zip(handles, (level for _, level in calls), strict=True))


async def _follow(client: AsyncClient, handles: Handles, report: DemoReport, say: Say, progress: Progress) -> None:
    begun, first = time.perf_counter(), 0.0
    async for handle in client.as_completed(handles):
        assert handle.final is not None
        first = first or time.perf_counter()
        _note(report, handle.final, handles[handle])
        progress(report)
        if report.done == CANCEL_AFTER:
            await _cancel(client, list(handles)[:LONG], report, say)
    report.first_seconds, report.work_seconds = first - begun, time.perf_counter() - first


def _note(report: DemoReport, result: TaskResult, level: Priority | None) -> None:
    report.states[result.state] += 1
    if level is not None:
        report.places.setdefault(level, []).append(report.done)
    if result.success and result.attempt:
        report.retried += 1
    if result.state is TaskState.DEAD_LETTERED:
        report.dead = result


async def _cancel(client: AsyncClient, doomed: Sequence[AsyncTaskHandle[Any]], report: DemoReport, say: Say) -> None:
    running = [await handle.state() is TaskState.STARTED for handle in doomed]
    report.cancelled_running = sum(running)
    await client.cancel(CANCEL_KEY)
    say(f"cancelled key {CANCEL_KEY!r}: {sum(running)} task running, {running.count(False)} waiting for its time")


async def _measure(client: AsyncClient, report: DemoReport) -> None:
    for number in range(ROUND_TRIPS):
        begun = time.perf_counter()
        handle = await client.submit(echo, number)
        await handle.result()
        report.round_trips.append(time.perf_counter() - begun)


async def _unless_it_ends(process: asyncio.subprocess.Process, log: Path, step: Any) -> None:
    """Do ``step``; a worker that dies meanwhile ends it, for nobody else would."""
    doing, dying = asyncio.ensure_future(step), asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise DemoError(f"the worker ended with exit code {dying.result()}", detail=_tail(log))
        doing.result()
    finally:
        for task in (doing, dying):
            task.cancel()
        await asyncio.gather(doing, dying, return_exceptions=True)


def _tail(log: Path) -> str:
    with suppress(OSError):
        return "\n".join(["the worker's log ends with:", *log.read_text("utf-8", "replace").splitlines()[-15:]])
    return ""


def _counts(states: Any) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
