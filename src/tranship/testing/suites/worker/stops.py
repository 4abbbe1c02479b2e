"""Workers that come and go, and what becomes of what they held."""

from __future__ import annotations

import asyncio
from typing import Any

from tranship.ports import Capability, Delivery, Verdict
from tranship.task import Task, current, task
from tranship.testing.context import ids_of
from tranship.testing.facade_context import FacadeContext, worker_case

__all__ = ["WorkerStopCases"]

RESULTS = {Capability.RESULTS}


class WorkerStopCases:
    """Part of the worker's suite: the end of a worker."""

    @worker_case(
        "drain_on_stop", level="capability", needs=RESULTS, rationale="a deployment must not lose or delay work"
    )
    async def test_drain_on_stop(self, facade: FacadeContext) -> None:
        """Running tasks finish; what was not touched is there for others at once, not counted."""
        gate = asyncio.Event()
        started: list[int] = []

        @task(name="kit.gate", queue="q")
        async def wait(number: int) -> int:
            started.append(number)
            await gate.wait()
            return number

        client = await facade.client(lease=60)
        worker = await facade.work(wait, lease=60, max_concurrent_tasks=2)
        handles = await client.submit_many(wait.call(number) for number in range(6))
        await facade.until_long(started, 2)
        worker.stop()
        rival = (await facade.context.open(lease=60)).consumer(["q"])
        untouched = await facade.context.receive(rival, 4)
        assert set(ids_of(untouched)) == {one.id for number, one in enumerate(handles) if number not in started}
        await _uncounted(facade, untouched)
        assert await facade.context.has(Capability.ORDERED) is False or started == [0, 1]
        late = await client.submit(wait, 7)
        gate.set()
        await facade.stop(worker)
        assert [await handles[number].result(facade.context.patience) for number in started] == started
        assert len(started) == 2, "it took something in after it was told to stop"
        assert ids_of(await facade.context.receive(rival)) == [late.id]
        await facade.context.quiet(rival, 0.2)

    @worker_case("hard_stop_gives_back", level="core", rationale="what cannot finish must go on elsewhere, at once")
    async def test_hard_stop_gives_back(self, facade: FacadeContext) -> None:
        """Hurried, out of time, cancelled: each time the task is told, and is there for others, not counted."""
        begun: list[str] = []
        told: list[str] = []

        @task(name="kit.endless", queue="q", store_result=False)
        async def endless() -> None:
            begun.append("loop")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                told.append("loop")
                raise

        @task(name="kit.endless-thread", queue="q", store_result=False)
        def endless_thread() -> None:
            begun.append("thread")
            current().wait_cancelled(60)
            told.append(f"thread {current().cancel_reason}")

        client = await facade.client(lease=60)
        for how in ("hurry", "patience", "cancel"):
            begun.clear()
            told.clear()
            # New ones each time: where a release is counted, the same ones would soon be suspects.
            ids = sorted([(await client.submit(endless)).id, (await client.submit(endless_thread)).id])
            await _stop_hard(facade, how, begun, endless, endless_thread)
            await facade.until_long(told, 2)
            assert sorted(told) == ["loop", "thread shutdown"]
            backend = await facade.context.open(lease=60)
            rival = backend.consumer(["q"])
            back = await facade.context.receive(rival, 2)
            assert sorted(ids_of(back)) == ids
            await _uncounted(facade, back)
            await facade.context.settle(rival, Verdict.ACK, *back)
            await rival.aclose()

    @worker_case("second_worker_takes_over", level="capability", needs=RESULTS, rationale="work outlives its workers")
    async def test_second_worker_takes_over(self, facade: FacadeContext) -> None:
        """The first is stopped in the middle of 60 tasks, the second in the middle of the rest: all end, once each."""
        runs: list[int] = []

        @task(name="kit.short", queue="q")
        async def short(number: int) -> int:
            runs.append(number)
            await asyncio.sleep(0.01)
            return number

        client = await facade.client()
        handles = await client.submit_many(short.call(number) for number in range(60))
        for enough in (15, 35):
            worker = await facade.work(short, max_concurrent_tasks=5)
            await facade.until_long(runs, enough)
            await facade.stop(worker)
            assert len(runs) < 60
        await facade.work(short, max_concurrent_tasks=5)
        found = await client.collect(handles, facade.context.patience)
        assert [one.value for one in found] == list(range(60))
        assert sorted(runs) == list(range(60))

    @worker_case(
        "worker_is_known",
        level="capability",
        needs={Capability.CONTROL, Capability.RESULTS},
        rationale="an operator asks who is at work",
    )
    async def test_worker_is_known(self, facade: FacadeContext) -> None:
        """Its heartbeat names it, its queues and what runs; it is gone when it has stopped."""
        gate = asyncio.Event()

        @task(name="kit.gate", queue="q")
        async def wait() -> None:
            await gate.wait()

        client = await facade.client()
        worker = await facade.work(wait, name="kit-worker", heartbeat_interval=0.1, max_concurrent_tasks=3)
        handle = await client.submit(wait)
        inspector = (await facade.context.open()).inspector()

        async def beats() -> bool:
            return any(handle.id in [one.id for one in beat.running] for beat in await inspector.workers())

        await facade.context.eventually(beats, "the worker says what it runs")
        (beat,) = await inspector.workers()
        assert (beat.worker, list(beat.queues), beat.limit, beat.stopping) == ("kit-worker", ["q"], 3, False)
        gate.set()
        await facade.stop(worker)
        assert list(await inspector.workers()) == []


async def _stop_hard(facade: FacadeContext, how: str, begun: list[str], *tasks: Task[..., Any]) -> None:
    worker = facade.make_worker(*tasks, lease=60, shutdown_timeout=0.3 if how == "patience" else 30.0)
    serving = facade.context.start(worker.serve())
    # Who is stopped before it has begun is told nothing.
    await facade.until_long(begun, 2)
    if how == "cancel":
        serving.cancel()
    else:
        worker.stop(hurry=how == "hurry")
    await asyncio.wait({serving}, timeout=10.0)
    assert serving.done(), f"the worker does not stop ({how})"


async def _uncounted(facade: FacadeContext, deliveries: list[Delivery]) -> None:
    """What was given back may count once where the broker counts that way."""
    counting = (await facade.context.capabilities())[Capability.DELIVERY_COUNT].properties.get("kind")
    counts = [delivery.delivery_count for delivery in deliveries]
    if counting == "exact":
        assert counts == [1] * len(counts), f"counted as failures: {counts}"
