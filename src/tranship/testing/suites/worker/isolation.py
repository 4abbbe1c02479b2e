"""Tasks in processes of their own, seen from the broker: ended for certain, their slot free, nothing lost."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tranship.envelope import Ending, TaskState
from tranship.errors import ProcessDied, TaskTimedOut
from tranship.outcomes import Outcome
from tranship.ports import Capability
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.suites.facade.claims import cloakroom

__all__ = ["IsolationCases"]

RESULTS: Final = {Capability.RESULTS}
LARGE: Final = "x" * 6000
SLOW: Final = 20.0
"""Seconds that a process may take to start on a busy machine, and to be ended."""


@task(name="kit.isolated_double", queue="q", isolation="process")
def double(text: str) -> Any:
    """Return twice the text, with a status, and say so."""
    print(f"{current().id} doubles {len(text)}")  # noqa: T201 - what is printed is in the log
    return Outcome("doubled", text * 2)


@task(name="kit.isolated_compute", queue="q", isolation="process")
def compute() -> None:
    """Say which process it is, and compute for ever, whatever it is told."""
    print("process", os.getpid())  # noqa: T201 - what is printed is in the log
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while time.time():
        pass


@task(name="kit.isolated_die", queue="q", isolation="process")
def die() -> None:
    """Take the process along."""
    os._exit(3)


class IsolationCases:
    """Part of the worker's suite: ``isolation="process"``."""

    @worker_case(
        "isolated_ended_for_certain",
        level="capability",
        needs=RESULTS | {Capability.CONTROL},
        rationale="a computation that hears nothing must not keep its slot for ever",
        limit=90.0,
    )
    async def test_isolated_ended_for_certain(self, facade: FacadeContext) -> None:
        """A cancel and a run timeout end a handler that computes for ever and hears nothing: its process is gone, its
        slot is free for the next task, which runs; its lease was kept while it computed.
        """
        client = await facade.client(lease=1.0)
        with _logged() as lines:
            worker = await facade.work(compute, double, max_concurrent_tasks=1, lease=1.0)
            cancelled = await client.submit(compute)
            pids = await _pids(lines, 1)
            await cancelled.cancel()
            assert (await cancelled.wait(SLOW)).state is TaskState.CANCELLED
            assert (await (await client.submit(double, "a")).wait(SLOW)).value == "aa"
            too_long = await client.submit(compute.options(run_timeout=1.5))
            result = await too_long.wait(SLOW)
            assert (result.state, result.error and result.error.code) == (TaskState.FAILURE, TaskTimedOut.code)
            pids = await _pids(lines, 2)
            assert (await (await client.submit(double, "b")).wait(SLOW)).value == "bb"
        assert worker.status().running == []
        assert not [pid for pid in pids if _runs(pid)], "a process outlives its task"

    @worker_case(
        "isolated_output_logged",
        level="capability",
        needs=RESULTS,
        rationale="a process that dies has only what it printed to explain itself",
        limit=60.0,
    )
    async def test_isolated_output_logged(self, facade: FacadeContext) -> None:
        """What it prints is in the worker's log with the task's id; a process that dies is a failure that says how, and
        the worker goes on.
        """
        client = await facade.client()
        with _logged() as lines:
            await facade.work(double, die, max_concurrent_tasks=1)
            handle = await client.submit(double, "a")
            assert (await handle.wait(SLOW)).status == "doubled"
            assert f"task {handle.id} printed: {handle.id} doubles 1" in lines
            result = await (await client.submit(die)).wait(SLOW)
            assert result.error is not None
            assert (result.state, result.error.code) == (TaskState.FAILURE, ProcessDied.code)
            assert "it exited with code 3" in result.error.message
            assert (await (await client.submit(double, "b")).wait(SLOW)).value == "bb"

    @worker_case(
        "isolated_claims",
        level="capability",
        needs=RESULTS,
        rationale="what is isolated is what is large",
        limit=60.0,
    )
    async def test_isolated_claims(self, facade: FacadeContext) -> None:
        """Bodies and results of isolated tasks travel by reference like others: the process gets what the claim stands
        for, and middleware around the ending sees what it has returned, status and all.
        """
        options: dict[str, Any] = {"max_message_size": 4096}
        with cloakroom() as room:
            client = await facade.client(middleware=[room], **options)
            await facade.work(double, middleware=[room], max_concurrent_tasks=1, **options)
            result = await (await client.submit(double, LARGE)).wait(SLOW)
            assert (result.value, result.status) == (LARGE * 2, "doubled")
            assert room.kept() == [f"{result.id}-body", f"{result.id}-result"]
            (call,) = room.settled
            assert (call.value, call.status, call.ending) == (LARGE * 2, "doubled", Ending.SUCCEEDED)
            assert call.duration is not None


@contextmanager
def _logged() -> Iterator[list[str]]:
    """What workers write in the log meanwhile, one text each."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]  # the shortest way
    logger = logging.getLogger("tranship.worker")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


async def _pids(lines: list[str], count: int) -> list[int]:
    """Wait until so many processes have said who they are."""
    end = time.monotonic() + SLOW
    while len(said := [line for line in lines if "printed: process" in line]) < count:
        assert time.monotonic() < end, f"{count} isolated tasks did not begin in time"
        await asyncio.sleep(0.02)
    return [int(line.rpartition(" ")[2]) for line in said]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
