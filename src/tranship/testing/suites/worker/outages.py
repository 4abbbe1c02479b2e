"""Workers whose broker is away: when they start, when they stop, when it comes back, and what they held."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

from tranship.envelope import TaskState
from tranship.ports import Capability
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.proxy import FaultProxy
from tranship.testing.suites.facade.outage import counted
from tranship.testing.suites.facade.submit import echo
from tranship.testing.suites.ports.recovery import back
from tranship.worker import Worker

__all__ = ["WorkerAwayCases", "WorkerOutageCases"]

RESULTS = {Capability.RESULTS}
LEASED = {Capability.RESULTS, Capability.LEASE}
_TASKS = 40
SOON = 2.0
"""Seconds within which a worker does what it has nothing to wait for."""
FAILURES = 5
"""Receives that fail in a row, after the one that was cut off, until pauses are longer than that."""


class WorkerOutageCases:
    """Part of the worker's suite."""

    @worker_case(
        "worker_over_cuts",
        level="capability",
        needs=LEASED,
        rationale="a connection that flaps must not stop a worker, nor run everything again",
    )
    async def test_worker_over_cuts(self, facade: FacadeContext) -> None:
        """Cut five times in the middle of a batch: every task ends well; at most those under way ran again."""
        proxy = facade.context.proxy()
        runs, work = counted()
        client = await facade.client(lease=2)
        worker = await facade.work(work, lease=2, via=proxy, max_concurrent_tasks=5)
        handles = await client.submit_many(work.call(number) for number in range(_TASKS))
        for cut in range(1, 6):
            await facade.until_long(runs, cut * _TASKS // 8)
            proxy.reset()
        found = await client.collect(handles, 2 * back(facade.context))
        assert [one.value for one in found] == list(range(_TASKS))
        again = sum(times - 1 for times in Counter(runs).values())
        assert again <= 5 * 5, f"{again} runs were repeated"
        await facade.until(lambda: worker.status().ready, "it is ready again")

    @worker_case(
        "worker_in_black_hole",
        level="capability",
        needs=LEASED,
        rationale="what a worker holds behind a dead link goes to another, and its late result is refused",
        limit=150,
    )
    async def test_worker_in_black_hole(self, facade: FacadeContext) -> None:
        """Silence for longer than a lease: another runs it and its result stays; afterwards the first is at work."""
        proxy = facade.context.proxy()
        runs: list[int] = []
        gate = asyncio.Event()

        @task(name="kit.held", queue="q")
        async def held(value: int) -> str:
            runs.append(value)
            if len(runs) == 1:
                await gate.wait()
                return "late"
            return "in time"

        client = await facade.client(lease=1.5)
        first = await facade.work(held, echo, lease=1.5, via=proxy)
        handle = await client.submit(held, 1)
        await facade.until_long(runs, 1)
        proxy.blackhole()
        second = await facade.work(held, echo, lease=1.5)
        assert await handle.result(back(facade.context)) == "in time"
        await facade.stop(second)
        proxy.blackhole(False)
        gate.set()
        after = await client.submit(echo, "alive")
        assert await after.result(2 * back(facade.context)) == "alive"
        assert await client.handle(handle.id).result(1) == "in time"
        assert await client.handle(handle.id).state() is TaskState.SUCCESS
        await facade.until(lambda: first.status().ready, "it is ready again")


class WorkerAwayCases:
    """Part of the worker's suite: no broker for a while."""

    @worker_case(
        "worker_waits_for_broker",
        level="capability",
        needs=RESULTS,
        rationale="what starts before its broker must be at work once that is there, and say what it waits for",
    )
    async def test_worker_waits_for_broker(self, facade: FacadeContext) -> None:
        """Started while nobody answers: not ready, with the reason; told to stop it ends; otherwise it works later."""
        proxy = facade.context.proxy()
        client = await facade.client()
        proxy.refuse()
        given_up, worker = (facade.make_worker(echo, via=proxy) for _ in range(2))
        for one in (given_up, worker):
            serving = facade.serve(one)
            await facade.until(partial(_waits, one), "it says what it waits for")
            assert not one.status().ready
            assert not serving.done()
        await _stops_soon(facade, given_up)
        handle = await client.submit(echo, "later")
        proxy.heal()
        assert await handle.result(back(facade.context)) == "later"

    @worker_case(
        "worker_stops_while_cut_off",
        level="capability",
        needs=RESULTS,
        rationale="a deployment must not wait for a broker that is away",
    )
    async def test_worker_stops_while_cut_off(self, facade: FacadeContext) -> None:
        """Cut off for a while and told to stop, with nothing to do: it ends soon."""
        proxy = facade.context.proxy()
        worker = await facade.work(echo, via=proxy, watchdog=1.2)
        await _cut_off(facade, proxy)
        await _stops_soon(facade, worker)

    @worker_case(
        "worker_back_with_connection",
        level="capability",
        needs=RESULTS,
        rationale="an outage that is over must not go on in the worker",
    )
    async def test_worker_back_with_connection(self, facade: FacadeContext) -> None:
        """Cut off until its pauses are long: it takes a task as soon as its connection is back."""
        proxy = facade.context.proxy()
        client = await facade.client()
        await facade.work(echo, via=proxy, watchdog=1.2)
        await _cut_off(facade, proxy)
        handle = await client.submit(echo, "waited")
        proxy.heal()
        assert await handle.result(SOON) == "waited"

    @worker_case(
        "lost_delivery_stops_handler",
        level="capability",
        needs=RESULTS,
        rationale="a task that the broker gives to another must not go on here as if nothing had happened",
    )
    async def test_lost_delivery_stops_handler(self, facade: FacadeContext) -> None:
        """Cut off while it runs. It never runs twice at once.

        Where the lease is the connection it is stopped, with the reason, and runs again; where it is time it just ends.
        """
        runs: list[str] = []
        told: list[str | None] = []
        gate = asyncio.Event()

        @task(name="kit.held", queue="q")
        async def held() -> str:
            runs.append("begun")
            try:
                if runs.count("begun") - runs.count("over") > 1:
                    return "twice at once"
                await gate.wait()
                return "ended"
            except asyncio.CancelledError:
                told.append(current().cancel_reason)
                raise
            finally:
                runs.append("over")

        leased = await facade.context.has(Capability.LEASE)
        proxy = facade.context.proxy()
        # No longer than we wait: what a server was just handing out over the lost connection comes after its lease.
        lease = back(facade.context) / 2
        client = await facade.client(lease=lease)
        await facade.work(held, echo, lease=lease, via=proxy)
        handle = await client.submit(held)
        await facade.until_long(runs, 1)
        proxy.reset()
        after = await client.submit(echo, "after")
        assert await after.result(back(facade.context)) == "after"
        if not leased:
            await facade.until(lambda: runs[:3] == ["begun", "over", "begun"], "it is stopped, and runs again")
        gate.set()
        assert await handle.result(back(facade.context)) == "ended"
        assert told == ([] if leased else ["lost"])
        assert runs.count("begun") == (1 if leased else 2)


def _waits(worker: Worker) -> bool:
    return "waiting for the broker" in (worker.status().problem or "")


async def _cut_off(facade: FacadeContext, proxy: FaultProxy) -> None:
    """Cut the one idle worker off, and return when it makes long pauses."""
    proxy.refuse()
    proxy.reset()
    before = facade.worker_faults.calls["receive"]
    await facade.until(lambda: facade.worker_faults.calls["receive"] >= before + FAILURES, "it tries again and again")
    # Its next failure comes within a fifth of a second: with this watchdog it asks for no longer.
    await facade.context.pass_time(0.3)


async def _stops_soon(facade: FacadeContext, worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    told = loop.time()
    await facade.stop(worker)
    took = loop.time() - told
    assert took < SOON, f"it took {took:.1f} s to stop"
