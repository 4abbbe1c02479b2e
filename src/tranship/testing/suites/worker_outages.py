"""Workers whose broker is away: when they start, when they stop, when it comes back, and what they held."""

from __future__ import annotations

import asyncio
from functools import partial

from tranship.ports import Capability
from tranship.task import current, task
from tranship.testing.desk import Desk, worker_case
from tranship.testing.proxy import FaultProxy
from tranship.testing.suites.facade_submit import echo
from tranship.testing.suites.recovery import back
from tranship.worker import Worker

__all__ = ["WorkerAwayCases"]

RESULTS = {Capability.RESULTS}
SOON = 2.0
"""Seconds within which a worker does what it has nothing to wait for."""
FAILURES = 5
"""Receives that fail in a row, after the one that was cut off, until pauses are longer than that."""


class WorkerAwayCases:
    """Part of the worker's suite: no broker for a while."""

    @worker_case(
        "worker_waits_for_broker",
        level="capability",
        needs=RESULTS,
        rationale="what starts before its broker must be at work once that is there, and say what it waits for",
    )
    async def test_worker_waits_for_broker(self, desk: Desk) -> None:
        """Started while nobody answers: not ready, with the reason; told to stop it ends; otherwise it works later."""
        proxy = desk.lab.proxy()
        client = await desk.client()
        proxy.refuse()
        given_up, worker = (desk.make_worker(echo, via=proxy) for _ in range(2))
        for one in (given_up, worker):
            serving = desk.serve(one)
            await desk.until(partial(_waits, one), "it says what it waits for")
            assert not one.status().ready
            assert not serving.done()
        await _stops_soon(desk, given_up)
        handle = await client.submit(echo, "later")
        proxy.heal()
        assert await handle.result(back(desk.lab)) == "later"

    @worker_case(
        "worker_stops_while_cut_off",
        level="capability",
        needs=RESULTS,
        rationale="a deployment must not wait for a broker that is away",
    )
    async def test_worker_stops_while_cut_off(self, desk: Desk) -> None:
        """Cut off for a while and told to stop, with nothing to do: it ends soon."""
        proxy = desk.lab.proxy()
        worker = await desk.work(echo, via=proxy, watchdog=1.2)
        await _cut_off(desk, proxy)
        await _stops_soon(desk, worker)

    @worker_case(
        "worker_back_with_connection",
        level="capability",
        needs=RESULTS,
        rationale="an outage that is over must not go on in the worker",
    )
    async def test_worker_back_with_connection(self, desk: Desk) -> None:
        """Cut off until its pauses are long: it takes a task as soon as its connection is back."""
        proxy = desk.lab.proxy()
        client = await desk.client()
        await desk.work(echo, via=proxy, watchdog=1.2)
        await _cut_off(desk, proxy)
        handle = await client.submit(echo, "waited")
        proxy.heal()
        assert await handle.result(SOON) == "waited"

    @worker_case(
        "lost_delivery_stops_handler",
        level="capability",
        needs=RESULTS,
        rationale="a task that the broker gives to another must not go on here as if nothing had happened",
    )
    async def test_lost_delivery_stops_handler(self, desk: Desk) -> None:
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

        leased = await desk.lab.has(Capability.LEASE)
        proxy = desk.lab.proxy()
        # No longer than we wait: what a server was just handing out over the lost connection comes after its lease.
        lease = back(desk.lab) / 2
        client = await desk.client(lease=lease)
        await desk.work(held, echo, lease=lease, via=proxy)
        handle = await client.submit(held)
        await desk.until_long(runs, 1)
        proxy.reset()
        after = await client.submit(echo, "after")
        assert await after.result(back(desk.lab)) == "after"
        if not leased:
            await desk.until(lambda: runs[:3] == ["begun", "over", "begun"], "it is stopped, and runs again")
        gate.set()
        assert await handle.result(back(desk.lab)) == "ended"
        assert told == ([] if leased else ["lost"])
        assert runs.count("begun") == (1 if leased else 2)


def _waits(worker: Worker) -> bool:
    return "waiting for the broker" in (worker.status().problem or "")


async def _cut_off(desk: Desk, proxy: FaultProxy) -> None:
    """Cut the one idle worker off, and return when it makes long pauses."""
    proxy.refuse()
    proxy.reset()
    before = desk.worker_faults.calls["receive"]
    await desk.until(lambda: desk.worker_faults.calls["receive"] >= before + FAILURES, "it tries again and again")
    # Its next failure comes within a fifth of a second: with this watchdog it asks for no longer.
    await desk.lab.pass_time(0.3)


async def _stops_soon(desk: Desk, worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    told = loop.time()
    await desk.stop(worker)
    took = loop.time() - told
    assert took < SOON, f"it took {took:.1f} s to stop"
