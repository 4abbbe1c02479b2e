"""Clients and workers whose broker is really away: killed, cut off, or silent."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tranship.envelope import TaskState
from tranship.errors import SubmitTimeout, SubmitUnknown
from tranship.ports import Capability
from tranship.task import task
from tranship.testing.desk import Desk, facade_case, worker_case
from tranship.testing.facades import FacadeClient
from tranship.testing.suites.facade_submit import echo
from tranship.testing.suites.recovery import Ledger, back, need_restart

__all__ = ["FacadeOutageCases", "WorkerOutageCases"]

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
    async def test_submit_over_restart(self, desk: Desk) -> None:
        """Killed under four callers: with time enough each submit succeeds, and each task is there once."""
        need_restart(desk.lab)
        client = await desk.client(submit_timeout=back(desk.lab))
        ids: list[str] = []
        over = asyncio.Event()
        callers = [desk.lab.start(_submit_until(desk, client, over, ids)) for _ in range(4)]
        await desk.until_long(ids, 20)
        await desk.lab.harness.restart()
        over.set()
        told = [one for caller in callers for one in await asyncio.wait_for(caller, 2 * back(desk.lab))]
        ledger = Ledger()
        await ledger.take(desk.lab, (await desk.lab.open()).consumer(["q"]))
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
    async def test_result_over_lost_connection(self, desk: Desk) -> None:
        """Cut off, then in silence, while the result is stored: who waited before gets it, who submits later, too."""
        proxy = desk.lab.proxy()
        client, other = await desk.client(via=proxy), await desk.client()
        for harm in (proxy.reset, proxy.blackhole):
            handle = await client.submit(echo, "kept")
            waiting = desk.lab.start(handle.result(4 * back(desk.lab)))
            await desk.until_waited_for(client)
            harm()
            worker = await desk.work(echo)
            await desk.lab.eventually(other.handle(handle.id).ready, "the task has ended")
            await desk.stop(worker)
            proxy.heal()
            assert await waiting == "kept"

    @facade_case(
        "results_over_restart",
        level="capability",
        needs=DURABLE | LEASED,
        rationale="a batch that is half done when the broker dies is a batch, not a loss",
        limit=120,
    )
    async def test_results_over_restart(self, desk: Desk) -> None:
        """Killed in the middle of a batch: the worker goes on, and the one who waits gets every result."""
        need_restart(desk.lab)
        runs, work = _counted()
        client = await desk.client(lease=2)
        await desk.work(work, lease=2, max_concurrent_tasks=5)
        handles = await client.submit_many(work.call(number) for number in range(_TASKS))
        collecting = desk.lab.start(client.collect(handles, 4 * back(desk.lab)))
        await desk.until_long(runs, _TASKS // 4)
        await desk.lab.harness.restart()
        found = await collecting
        assert [one.value for one in found] == list(range(_TASKS))


class WorkerOutageCases:
    """Part of the worker's suite."""

    @worker_case(
        "worker_over_cuts",
        level="capability",
        needs=LEASED,
        rationale="a connection that flaps must not stop a worker, nor run everything again",
    )
    async def test_worker_over_cuts(self, desk: Desk) -> None:
        """Cut five times in the middle of a batch: every task ends well; at most those under way ran again."""
        proxy = desk.lab.proxy()
        runs, work = _counted()
        client = await desk.client(lease=2)
        worker = await desk.work(work, lease=2, via=proxy, max_concurrent_tasks=5)
        handles = await client.submit_many(work.call(number) for number in range(_TASKS))
        for cut in range(1, 6):
            await desk.until_long(runs, cut * _TASKS // 8)
            proxy.reset()
        found = await client.collect(handles, 2 * back(desk.lab))
        assert [one.value for one in found] == list(range(_TASKS))
        again = sum(times - 1 for times in Counter(runs).values())
        assert again <= 5 * 5, f"{again} runs were repeated"
        await desk.until(lambda: worker.status().ready, "it is ready again")

    @worker_case(
        "worker_in_black_hole",
        level="capability",
        needs=LEASED,
        rationale="what a worker holds behind a dead link goes to another, and its late result is refused",
        limit=150,
    )
    async def test_worker_in_black_hole(self, desk: Desk) -> None:
        """Silence for longer than a lease: another runs it and its result stays; afterwards the first is at work."""
        proxy = desk.lab.proxy()
        runs: list[int] = []
        gate = asyncio.Event()

        @task(name="kit.held", queue="q")
        async def held(value: int) -> str:
            runs.append(value)
            if len(runs) == 1:
                await gate.wait()
                return "late"
            return "in time"

        client = await desk.client(lease=1.5)
        first = await desk.work(held, echo, lease=1.5, via=proxy)
        handle = await client.submit(held, 1)
        await desk.until_long(runs, 1)
        proxy.blackhole()
        second = await desk.work(held, echo, lease=1.5)
        assert await handle.result(back(desk.lab)) == "in time"
        await desk.stop(second)
        proxy.blackhole(False)
        gate.set()
        after = await client.submit(echo, "alive")
        assert await after.result(2 * back(desk.lab)) == "alive"
        assert await client.handle(handle.id).result(1) == "in time"
        assert await client.handle(handle.id).state() is TaskState.SUCCESS
        await desk.until(lambda: first.status().ready, "it is ready again")


def _counted() -> tuple[list[int], Any]:
    """A task that notes its runs and takes a moment."""
    runs: list[int] = []

    @task(name="kit.counted", queue="q")
    async def work(number: int) -> int:
        runs.append(number)
        await asyncio.sleep(0.02)
        return number

    return runs, work


async def _submit_until(desk: Desk, client: FacadeClient, over: asyncio.Event, ids: list[str]) -> list[str]:
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
        await desk.lab.pass_time(0.005)
