"""Workers that hang and die, and what becomes of what they held."""

from __future__ import annotations

import asyncio
import threading
import time

from tranship.envelope import TaskState
from tranship.errors import BrokerUnreachable, TaskDeadLettered
from tranship.ports import Backend, Capability, Verdict
from tranship.task import task
from tranship.testing.context import ids_of
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.suites.facade.submit import echo
from tranship.testing.suites.worker.runs import ended

__all__ = ["WorkerLeaseCases", "deliver_in_vain"]

RESULTS = {Capability.RESULTS}


class WorkerLeaseCases:
    """Part of the worker's suite: whose task it is."""

    @worker_case(
        "blocking_handler_keeps_leases",
        level="capability",
        needs={Capability.LEASE, Capability.RESULTS},
        rationale="a handler that blocks its event loop must cost nobody a second run, itself least of all",
    )
    async def test_blocking_handler_keeps_leases(self, facade: FacadeContext) -> None:
        """For four leases asleep, for four leases busy, siblings in the middle and behind: one run each."""
        lease = 1.2
        runs: list[str] = []

        @task(name="kit.block", queue="q")
        async def block(how: str) -> str:
            runs.append(how)
            end = time.monotonic() + lease * 4
            if how == "asleep":
                time.sleep(lease * 4)  # noqa: ASYNC251 - the point: nothing else runs on this loop meanwhile
            while time.monotonic() < end:
                pass
            return how

        @task(name="kit.wait", queue="q")
        async def wait(name: str) -> str:
            runs.append(name)
            await asyncio.sleep(lease / 2)
            return name

        names = ["first", "second", "asleep", "busy", "behind"]
        client = await facade.client(lease=lease)
        worker = await facade.work_in_thread(block, wait, lease=lease, name="first")
        handles = [await client.submit(wait, name) for name in names[:2]]
        await facade.until_long(runs, 2)
        handles += [await client.submit(block, name) for name in names[2:4]]
        await facade.until(lambda: "asleep" in runs, "it blocks")
        handles.append(await client.submit(wait, names[4]))
        await facade.until(lambda: handles[4].id in worker.status().running, "the worker has the last one, too")
        await facade.work_in_thread(block, wait, lease=lease, name="hungry")
        found = await client.collect(handles, facade.context.patience + lease * 8)
        assert [one.value for one in found] == names
        assert sorted(runs) == sorted(names)
        assert [one.worker for one in found] == ["first"] * 5

    @worker_case(
        "lease_expiry_unrenewed",
        level="capability",
        needs={Capability.LEASE, Capability.RESULTS},
        rationale="a worker that cannot renew is as good as dead, and must not change history when it comes back",
    )
    async def test_lease_expiry_unrenewed(self, facade: FacadeContext) -> None:
        """None of its renewals arrives: another one runs the task, and only that result counts."""
        lease = 0.7
        runs: list[str] = []
        over = asyncio.Event()

        @task(name="kit.block", queue="q")
        async def block() -> str:
            runs.append("")
            if len(runs) > 1:
                return "alive"
            await over.wait()
            return "zombie"

        client = await facade.client(lease=lease)
        facade.worker_faults.fail("extend", BrokerUnreachable, times=10_000)
        only = {"queues": ["q", "own"], "max_concurrent_tasks": 1}
        first = await facade.work(block, echo, lease=lease, name="first", **only)
        handle = await client.submit(block)
        await facade.until_long(runs, 1)
        await facade.work(block, lease=lease, name="second")
        assert await handle.result(facade.context.patience) == "alive"
        over.set()
        # The first one is at work again, with the past as it was.
        again = await client.submit(echo.options(queue="own"), "again")
        assert await again.result(facade.context.patience) == "again"
        await facade.until(lambda: not first.status().running, "the first worker has put the task down")
        result = await client.handle(handle.id).wait(facade.context.patience)
        assert (result.state, result.value, result.worker) == (TaskState.SUCCESS, "alive", "second")
        await facade.context.pass_time(lease * 1.5)
        assert len(runs) == 2, f"{len(runs)} runs"

    @worker_case(
        "poison_limit_dead_letters",
        level="capability",
        needs={Capability.DELIVERY_COUNT, Capability.DEAD_LETTERS, Capability.RESULTS},
        rationale="a task that kills every worker must be stopped, and only that one",
    )
    async def test_poison_limit_dead_letters(self, facade: FacadeContext) -> None:
        """Delivered as often as allowed, it still runs; once more, and it is dead-lettered, not run."""
        runs: list[str] = []

        @task(name="kit.note", queue="q")
        async def note(value: str) -> str:
            runs.append(value)
            return value

        client = await facade.client()
        backend = await facade.context.open()
        last_chance = await deliver_in_vain(facade, backend, (await client.submit(note, "last chance")).id, 2)
        poison = await deliver_in_vain(facade, backend, (await client.submit(note, "poison")).id, 3)
        innocent = await client.submit(note, "innocent")
        worker = await facade.work(note, max_deliveries=3)
        error = await ended(client.handle(poison), facade, TaskDeadLettered)
        assert error.code == "DELIVERY_LIMIT"
        assert "3 times" in str(error)
        exact = backend.capabilities[Capability.DELIVERY_COUNT].properties.get("kind") == "exact"
        expected = ["innocent", "last chance"] if exact else ["innocent"]
        if exact:
            assert await client.handle(last_chance).result(facade.context.patience) == "last chance"
        assert await innocent.result(facade.context.patience) == "innocent"
        await facade.stop(worker)
        assert sorted(set(runs) & set(expected)) == expected
        assert "poison" not in runs
        letters = {letter.task_id: letter for letter in await backend.inspector().dead("q")}
        assert (letters[poison].reason, letters[poison].task) == ("delivery-limit", "kit.note")
        assert letters[poison].deliveries > 3
        assert not exact or set(letters) == {poison}

    @worker_case(
        "suspect_runs_alone",
        level="capability",
        needs={Capability.DELIVERY_COUNT, Capability.RESULTS},
        rationale="what has been lost twice may kill its worker: nobody else may be there when it does",
    )
    async def test_suspect_runs_alone(self, facade: FacadeContext) -> None:
        """Delivered twice in vain: until it is settled nothing else is taken in; then work goes on."""
        runs: list[str] = []
        gate = asyncio.Event()

        @task(name="kit.note", queue="q")
        async def note(value: str) -> str:
            runs.append(value)
            if value == "suspect":
                await gate.wait()
            return value

        client = await facade.client()
        backend = await facade.context.open()
        handle = await client.submit(note.options(priority="high"), "suspect")
        await deliver_in_vain(facade, backend, handle.id, 2)
        await facade.work(note, max_concurrent_tasks=5)
        await facade.until_long(runs, 1)
        others = await client.submit_many(note.call(str(number)) for number in range(4))
        assert runs == ["suspect"]
        await facade.context.pass_time(0.3)
        assert runs == ["suspect"], "others run beside a suspect"
        facade.worker_faults.stall("settle")
        gate.set()
        await facade.until(lambda: facade.worker_faults.hit["settle"] == 1, "it is settled")
        await facade.context.pass_time(0.2)
        assert runs == ["suspect"], "others run while its end is not stored"
        facade.worker_faults.release("settle")
        found = await client.collect([handle, *others], facade.context.patience)
        assert [one.value for one in found] == ["suspect", "0", "1", "2", "3"]

    @worker_case(
        "redelivered_with_result_not_run",
        level="capability",
        needs={Capability.DELIVERY_COUNT, Capability.RESULTS},
        rationale="who dies between storing the result and settling must not have the work done twice",
    )
    async def test_redelivered_with_result_not_run(self, facade: FacadeContext) -> None:
        """Both were delivered before: what has a result is taken away, the other one runs.

        Who stored that result may have died before it told those who wait: they hear of it all the same. (Where results
        are stored and deliveries settled in one step, results are in another store.)
        """
        runs: list[str] = []

        @task(name="kit.note", queue="q")
        async def note(value: str) -> str:
            runs.append(value)
            return value

        settings, apart = {}, None
        if await facade.context.has(Capability.FUSED_SETTLE):
            apart = f"{facade.context.namespace}-results"
            settings = {"result_url": facade.context.harness.url(apart, {})}
        client = await facade.client(**settings)
        backend = await facade.context.open()
        done, lost = await client.submit_many([note.call("again"), note.call("lost")])
        for handle in (done, lost):
            await deliver_in_vain(facade, backend, handle.id, 1)
        waiting = facade.context.start(client.collect([done, lost], facade.context.patience))
        await facade.until_waited_for(client, 2)
        store = await facade.context.open_results(namespace=apart)
        await store.results().put([facade.context.result(done.id, "before")])
        worker = await facade.work(note, **settings)
        assert [one.value for one in await waiting] == ["before", "lost"]
        await facade.until(lambda: worker.status().done == 2, "both are settled")
        await facade.stop(worker)
        assert runs == ["lost"]
        await facade.context.quiet(backend.consumer(["q"]), 0.2)

    @worker_case(
        "worker_concurrency_bound", level="capability", needs=RESULTS, rationale="a limit is a limit, and no less"
    )
    async def test_worker_concurrency_bound(self, facade: FacadeContext) -> None:
        """Never more than the limit, loop and threads together; the limit is reached; the rest is left to others."""
        gate, thread_gate = asyncio.Event(), threading.Event()
        running: set[str] = set()
        most = 0

        def enter(name: str) -> None:
            nonlocal most
            running.add(name)
            most = max(most, len(running))

        @task(name="kit.loop", queue="q")
        async def on_loop(name: str) -> None:
            enter(name)
            await gate.wait()
            running.discard(name)

        @task(name="kit.thread", queue="q")
        def on_thread(name: str) -> None:
            enter(name)
            thread_gate.wait(20)
            running.discard(name)

        client = await facade.client()
        calls = [(on_loop, on_thread)[number % 2].call(str(number)) for number in range(12)]
        handles = await client.submit_many(calls)
        await facade.work(on_loop, on_thread, max_concurrent_tasks=4)
        await facade.until_long(running, 4)
        rival = await facade.context.receive((await facade.context.open()).consumer(["q"]), 8)
        assert len(rival) == 8, "the worker holds more than it runs"
        gate.set()
        thread_gate.set()
        mine = [handle for handle in handles if handle.id not in ids_of(rival)]
        found = await client.collect(mine, facade.context.patience)
        assert [one.success for one in found] == [True] * 4
        assert most == 4


async def deliver_in_vain(facade: FacadeContext, backend: Backend, task_id: str, times: int) -> str:
    """Deliver the one task of the queue ``times`` times, as to workers that died of it."""
    consumer = backend.consumer(["q"])
    others = []
    for _ in range(times):
        while True:
            (delivery,) = await facade.context.receive(consumer)
            if ids_of([delivery]) == [task_id]:
                break
            others.append(delivery)
        await facade.context.settle(consumer, Verdict.NACK, delivery)
    await consumer.release(others)
    await consumer.aclose()
    return task_id
