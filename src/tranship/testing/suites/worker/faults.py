"""Workers whose broker fails them for a while, and tasks that know what they belong to."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tranship.client import AsyncClient
from tranship.envelope import TaskState
from tranship.errors import BrokerRefused, BrokerUnreachable
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, facade_case, worker_case
from tranship.testing.suites.facade.submit import echo

__all__ = ["WorkerFaultCases"]

RESULTS = {Capability.RESULTS}
LEASED = {Capability.RESULTS, Capability.LEASE}


class OutageCases:
    """Part of the worker's suite."""

    @worker_case(
        "worker_survives_receive_failures", level="capability", needs=RESULTS, rationale="an outage is not an end"
    )
    async def test_worker_survives_receive_failures(self, facade: FacadeContext) -> None:
        """Receiving fails a few times while a task runs: it runs on, once, and the next ones come."""
        runs, gate, wait = _gated()
        client = await facade.client()
        worker = await facade.work(wait, echo)
        running = await client.submit(wait, 1)
        await facade.until(lambda: runs == [1], "it runs")
        facade.worker_faults.fail("receive", BrokerUnreachable, times=3)
        assert await (await client.submit(echo, 2)).result(facade.context.patience) == 2
        assert await (await client.submit(echo, 3)).result(facade.context.patience) == 3
        await facade.until(lambda: facade.worker_faults.hit["receive"] == 3, "receiving fails")
        await facade.until(lambda: worker.status().ready, "it is ready again")
        gate.set()
        assert await running.result(facade.context.patience) == 1
        assert runs == [1], f"the task that ran was run again: {runs}"

    @worker_case(
        "worker_survives_settle_failures", level="capability", needs=LEASED, rationale="done work is not redone"
    )
    async def test_worker_survives_settle_failures(self, facade: FacadeContext) -> None:
        """Settling fails for longer than a lease: the lease is kept meanwhile, the task runs once."""
        runs: list[int] = []

        @task(name="kit.note", queue="q")
        async def note(value: int) -> int:
            runs.append(value)
            return value

        client = await facade.client(lease=0.7)
        facade.worker_faults.fail("settle", BrokerUnreachable, times=6)
        await facade.work(note, lease=0.7)
        handles = [await client.submit(note, number) for number in range(3)]
        assert [await handle.result(facade.context.patience) for handle in handles] == [0, 1, 2]
        # Where results are stored before, they are there while settling still fails.
        await facade.until(lambda: facade.worker_faults.hit["settle"] == 6, "settling has failed six times")
        assert sorted(runs) == [0, 1, 2]

    @worker_case(
        "worker_survives_extend_failures", level="capability", needs=LEASED, rationale="one lost beat is no death"
    )
    async def test_worker_survives_extend_failures(self, facade: FacadeContext) -> None:
        """One renewal in the middle fails: the task runs once, to its end."""
        runs, gate, wait = _gated()
        client = await facade.client(lease=1.5)
        await facade.work(wait, lease=1.5)
        handle = await client.submit(wait, 1)
        await facade.until(lambda: facade.worker_faults.calls["extend"] >= 1, "the lease is renewed")
        facade.worker_faults.fail("extend", BrokerUnreachable)
        facade.worker_faults.fail("beat", BrokerUnreachable, times=-1)
        await facade.until(lambda: facade.worker_faults.calls["extend"] >= 4, "it is renewed again")
        gate.set()
        assert await handle.result(facade.context.patience) == 1
        assert runs == [1]

    @worker_case(
        "worker_goes_on_without_settling",
        level="capability",
        needs=RESULTS,
        rationale="one task that cannot be settled must not stop the others, nor be lost",
    )
    async def test_worker_goes_on_without_settling(self, facade: FacadeContext) -> None:
        """The broker refuses to settle one for good: others end; it comes again, and ends then.

        After its lease, or, where that is the connection, once the worker has given it back. Where its result was
        stored before, and the broker says that it comes again, it does not run again.
        """
        runs: list[str] = []

        @task(name="kit.note", queue="q")
        async def note(value: str) -> str:
            runs.append(value)
            return value

        client = await facade.client(lease=0.7)
        worker = await facade.work(note, lease=0.7)
        facade.worker_faults.fail("settle", BrokerRefused)
        cursed = await client.submit(note, "cursed")
        await facade.until(lambda: facade.worker_faults.hit["settle"] == 1, "settling is refused")
        assert await (await client.submit(note, "good")).result(facade.context.patience) == "good"
        assert await cursed.result(facade.context.patience) == "cursed"
        await facade.until(lambda: worker.status().done == 3, "it came again")
        in_one_step = await facade.context.has(Capability.FUSED_SETTLE)
        again = in_one_step or not await facade.context.has(Capability.DELIVERY_COUNT)
        assert runs == (["cursed", "good", "cursed"] if again else ["cursed", "good"])

    @worker_case(
        "watchdog_rebuilds_consumer",
        level="capability",
        needs=RESULTS,
        rationale="alive but not consuming is the worst of all",
    )
    async def test_watchdog_rebuilds_consumer(self, facade: FacadeContext) -> None:
        """Receiving hangs: noticed, a new consumer is made, the next task runs; a task that ran is not lost."""
        runs, gate, wait = _gated()
        client = await facade.client(lease=5)
        worker = await facade.work(wait, echo, lease=5, watchdog=1.2)
        running = await client.submit(wait, 1)
        await facade.until(lambda: runs == [1], "it runs")
        facade.worker_faults.stall("receive")
        await facade.until(lambda: facade.worker_faults.hit["receive"] == 1, "receiving hangs")
        started = time.monotonic()
        assert await (await client.submit(echo, 2)).result(facade.context.patience) == 2
        assert time.monotonic() - started < 10.0
        assert worker.status().ready
        gate.set()
        assert await running.result(facade.context.patience) == 1
        assert runs == [1], f"what ran was given back and run again: {runs}"

    @worker_case(
        "worker_notices_deafness",
        level="capability",
        needs=RESULTS | {Capability.INSPECT_DEPTH},
        rationale="a consumer that brings nothing, says that all is well, and is believed, stops a worker for ever",
    )
    async def test_worker_notices_deafness(self, facade: FacadeContext) -> None:
        """The broker gives the consumer nothing although there is something: noticed, said, and a new one is made."""
        runs, gate, wait = _gated()
        client = await facade.client(lease=5)
        worker = await facade.work(wait, echo, lease=5, watchdog=1.2)
        running = await client.submit(wait, 1)
        await facade.until(lambda: runs == [1], "it runs")
        facade.worker_faults.deafen()
        asked = facade.worker_faults.calls["receive"]
        await facade.until(lambda: facade.worker_faults.calls["receive"] > asked, "receiving brings nothing")
        assert await (await client.submit(echo, 2)).result(facade.context.patience) == 2
        await facade.until(lambda: worker.status().ready, "it is ready again")
        gate.set()
        assert await running.result(facade.context.patience) == 1
        assert runs == [1], f"what ran was given back and run again: {runs}"

    @worker_case("worker_stops_without_broker", level="core", rationale="a deployment must not hang on a dead broker")
    async def test_worker_stops_without_broker(self, facade: FacadeContext) -> None:
        """Nothing works any more: a worker that is told to stop, and hurried, stops."""
        runs, _gate, wait = _gated(store_result=False)
        client = await facade.client(lease=5)
        worker = await facade.work(wait, lease=5)
        await client.submit(wait, 1)
        await facade.until(lambda: runs == [1], "it runs")
        for verb in ("receive", "settle", "release", "extend", "beat"):
            facade.worker_faults.fail(verb, BrokerUnreachable, times=-1)
        worker.stop()
        worker.stop(hurry=True)
        await facade.stop(worker)

    @worker_case(
        "results_elsewhere",
        level="capability",
        needs=RESULTS,
        rationale="broker and result store are chosen independently",
    )
    async def test_results_elsewhere(self, facade: FacadeContext) -> None:
        """Another store for results, failing at first: stored there before the task is acknowledged, run once."""
        stores = facade.context.harness.results or facade.context.harness
        store = stores.url(f"{facade.context.namespace}-results", {})
        runs, gate, wait = _gated()
        client = await facade.client(result_url=store)
        await facade.work(wait, result_url=store)
        facade.worker_faults.fail("put", BrokerUnreachable, times=3)
        handle = await client.submit(wait, 1)
        waiting = facade.context.start(handle.result(facade.context.patience))
        gate.set()
        assert await waiting == 1
        assert (facade.worker_faults.hit["put"], runs) == (3, [1])
        (here,) = await (await facade.context.open_results()).results().get_many([handle.id])
        assert not here.state.terminal, "the result is at the broker"
        assert await client.handle(handle.id).state() is TaskState.SUCCESS


class ContextCases:
    """Part of the worker's suite: what a handler knows."""

    @worker_case(
        "context_of_a_task", level="capability", needs=RESULTS, rationale="a handler must know what it runs for"
    )
    async def test_context_of_a_task(self, facade: FacadeContext) -> None:
        """Id, queue, attempt, deliveries, headers and remaining time, on the loop, in a thread and further down."""

        def facts() -> dict[str, Any]:
            here = current()
            left = here.remaining()
            return {
                "id": here.id,
                "task": here.task,
                "queue": here.queue,
                "attempt": here.attempt,
                "deliveries": here.delivery_count,
                "tenant": here.headers.get("x-tenant"),
                "left": left is not None and 25 < left <= 30,
                "stop": here.cancelled,
            }

        @task(name="kit.facts", queue="q", run_timeout=30, deadline_in=300, headers={"x-tenant": "é"})
        async def on_loop() -> list[dict[str, Any]]:
            return [facts(), await asyncio.to_thread(facts)]

        @task(name="kit.facts-thread", queue="q", run_timeout=30, deadline_in=300, headers={"x-tenant": "é"})
        def in_a_thread() -> list[dict[str, Any]]:
            return [facts(), facts()]

        client = await facade.client()
        await facade.work(on_loop, in_a_thread)
        for one in (on_loop, in_a_thread):
            handle = await client.submit(one)
            expected = {"id": handle.id, "task": one.name, "queue": "q", "attempt": 0, "deliveries": 1}
            expected |= {"tenant": "é", "left": True, "stop": False}
            assert await handle.result(facade.context.patience) == [expected, expected]

    @facade_case(
        "submit_inherits", level="capability", needs=RESULTS, rationale="a trace, and a deadline, cover everything"
    )
    async def test_submit_inherits(self, facade: FacadeContext) -> None:
        """A task submitted by a task: its root and parent are known, and it has no more time than its parent."""
        client = await facade.client()
        native = client.native

        @task(name="kit.child", queue="q")
        def child() -> list[Any]:
            here = current()
            return [here.root_id, here.envelope.parent_id, here.deadline]

        @task(name="kit.parent", queue="q", deadline_in=40)
        async def parent_on_loop() -> Any:
            assert isinstance(native, AsyncClient)
            handles = [await native.submit(child), await native.submit(child.options(deadline_in=400))]
            return [current().deadline, *[await handle.result(20) for handle in handles]]

        @task(name="kit.parent", queue="q", deadline_in=40)
        def parent_in_thread() -> Any:
            handles = [native.submit(child), native.submit(child.options(deadline_in=400))]
            return [current().deadline, *[handle.result(20) for handle in handles]]

        parent = parent_in_thread if client.blocking else parent_on_loop
        await facade.work(child, parent)
        handle = await client.submit(parent)
        deadline, plain, longer = await handle.result(facade.context.patience)
        assert plain == [handle.id, handle.id, deadline]
        assert longer == [handle.id, handle.id, deadline], "a child outlives its parent's deadline"
        alone = await client.submit(child)
        assert await alone.result(facade.context.patience) == [alone.id, None, None]

    @facade_case("state_transitions_legal", level="capability", needs=RESULTS, rationale="only the documented graph")
    async def test_state_transitions_legal(self, facade: FacadeContext) -> None:
        """A task's states as they are seen, from queued over a retry to its end: the documented ones, in order."""
        runs, gate, wait = _gated(fail_first=True)
        client = await facade.client()
        handle = await client.submit(wait, 1)
        knows = await facade.context.has(Capability.KNOWS_IDS)
        # A store that is not the broker has never heard of a task before its end.
        queued = {TaskState.PENDING} if knows else {TaskState.PENDING, TaskState.UNKNOWN}
        assert await handle.state() in queued
        worker = await facade.work(wait)

        async def seen(state: TaskState) -> bool:
            return await client.handle(handle.id).state() is state

        if knows:
            await facade.context.eventually(lambda: seen(TaskState.STARTED), "STARTED")
        await facade.until(lambda: len(runs) == 1, "it runs")
        gate.set()
        if knows:
            await facade.context.eventually(lambda: seen(TaskState.RETRY), "RETRY")
        assert await handle.result(facade.context.patience) == 1
        assert await seen(TaskState.SUCCESS)
        await facade.stop(worker)
        assert await seen(TaskState.SUCCESS)
        assert await client.handle(handle.id).ready()


class WorkerFaultCases(OutageCases, ContextCases):
    """Part of the worker's suite."""


def _gated(*, fail_first: bool = False, store_result: bool = True) -> tuple[list[int], asyncio.Event, Any]:
    """A task that notes its runs and waits; the first attempt may fail after that."""
    runs: list[int] = []
    gate = asyncio.Event()

    retry = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.5))

    @task(name="kit.gated", queue="q", retry=retry, store_result=store_result)
    async def wait(value: int) -> int:
        runs.append(value)
        await gate.wait()
        if fail_first and current().attempt == 0:
            raise ValueError(value)
        return value

    return runs, gate, wait
