"""Waiting for results through a client."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import replace

from tranship.envelope import TaskState, new_id
from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    InvalidOptionError,
    ResultsDisabled,
    ResultTimeout,
    StorageFull,
    TaskNotFound,
    UnsupportedError,
)
from tranship.ports import Capability
from tranship.protocol import decode
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import FacadeClient, raised
from tranship.testing.suites.facade.submit import echo

__all__ = ["ResultCases"]

NEEDS = {Capability.RESULTS}


class ResultCases:
    """Part of the facade's suite: one waiter."""

    @facade_case(
        "result_wait_pushed",
        level="capability",
        needs={Capability.RESULTS, Capability.RESULT_PUSH},
        rationale="a result must come when it is there, not at the next poll",
    )
    async def test_result_wait_pushed(self, facade: FacadeContext) -> None:
        """A quarter of 20 come within 50 ms of the end of the handler; reading once per waiter at most."""
        client = await facade.client()
        ended: dict[int, float] = {}
        gates = [asyncio.Event() for _ in range(20)]

        @task(name="kit.stamp", queue="q")
        async def stamp(number: int) -> None:
            await gates[number].wait()
            ended[number] = time.monotonic()

        await facade.work(stamp, max_concurrent_tasks=1)
        delays = []
        for number, gate in enumerate(gates):
            handle = await client.submit(stamp, number)
            waiting = facade.context.start(handle.result(facade.context.patience))
            await facade.until_waited_for(client)
            gate.set()
            await waiting
            delays.append(time.monotonic() - ended[number])
        # A busy machine makes some of them late; who looks now and then is late with nearly all of them.
        assert statistics.quantiles(delays)[0] < 0.05, [f"{delay * 1000:.0f} ms" for delay in delays]
        assert facade.client_faults.calls["get_many"] <= 2 * len(gates), "the waiters poll"

    @facade_case(
        "result_set_before_wait", level="capability", needs=NEEDS, rationale="who comes late must not wait for ever"
    )
    async def test_result_set_before_wait(self, facade: FacadeContext) -> None:
        """Stored long before anybody asks, by another client even; and asked for several times over."""
        client, other = await facade.client(), await facade.client(kind="blocking")
        handle = await client.submit(echo, "early")
        worker = await facade.work(echo)
        await facade.context.eventually(handle.ready, "it has run")
        await facade.stop(worker)
        late = other.handle(handle.id)
        waits = await asyncio.gather(*(client.handle(handle.id).result(facade.context.patience) for _ in range(3)))
        assert [*waits, await late.result(facade.context.patience)] == ["early"] * 4
        assert (await handle.wait(facade.context.patience)).value == "early"

    @facade_case(
        "result_timeout_is_the_callers", level="capability", needs=NEEDS, rationale="a caller's patience is its own"
    )
    async def test_result_timeout_is_the_callers(self, facade: FacadeContext) -> None:
        """ResultTimeout in time, a TimeoutError too; the task goes on and a later wait gets its result."""
        client = await facade.client()
        handle = await client.submit(echo, 1)
        started = time.monotonic()
        error = await raised(handle.result(0.3), ResultTimeout)
        assert 0.25 < time.monotonic() - started < 3.0
        assert (error.task_id, isinstance(error, TimeoutError)) == (handle.id, True)
        await raised(handle.result(0), ResultTimeout)
        await raised(handle.result(-1), InvalidOptionError)
        await facade.work(echo)
        assert await handle.result(facade.context.patience) == 1

    @facade_case(
        "result_first_write_wins", level="capability", needs=NEEDS, rationale="a zombie must not change the past"
    )
    async def test_result_first_write_wins(self, facade: FacadeContext) -> None:
        """A second terminal result is refused; everybody sees the first, also who waited before."""
        client = await facade.client()
        handle = await client.submit(echo, 1)
        waiting = facade.context.start(handle.result(facade.context.patience))
        await facade.until_waited_for(client)
        backend = await facade.context.open()
        (delivery,) = await facade.context.receive(backend.consumer(["q"]))
        address = decode(delivery.message, queue="q", priority=delivery.priority).reply_to
        store = (await facade.context.open_results()).results()
        first = replace(facade.context.result(handle.id, "first"), reply_to=address)
        assert list(await store.put([first])) == [True]
        late = facade.context.result(handle.id, None, state=TaskState.CANCELLED)
        assert list(await store.put([late])) == [False]
        assert await waiting == "first"
        assert await client.handle(handle.id).result(facade.context.patience) == "first"

    @facade_case(
        "result_ttl_expires",
        level="capability",
        needs={Capability.RESULTS, Capability.RESULT_TTL, Capability.KNOWS_IDS},
        rationale="a store must not grow for ever",
    )
    async def test_result_ttl_expires(self, facade: FacadeContext) -> None:
        """Gone after its time; another one with more time stays."""
        client = await facade.client()
        await facade.work(echo)
        short = await client.submit(echo.options(result_ttl=0.4), 1)
        long = await client.submit(echo.options(result_ttl=60), 1)
        assert await short.result(facade.context.patience) == await long.result(facade.context.patience) == 1

        async def gone() -> bool:
            return await client.handle(short.id).state() is TaskState.UNKNOWN

        await facade.context.eventually(gone, "the result expires")
        await raised(client.handle(short.id).result(facade.context.patience), TaskNotFound)
        assert await short.result() == 1, "the handle forgot what it had seen"
        assert await client.handle(long.id).result(facade.context.patience) == 1

    @facade_case(
        "result_forget_idempotent", level="capability", needs=NEEDS, rationale="cleaning up must be safe to repeat"
    )
    async def test_result_forget_idempotent(self, facade: FacadeContext) -> None:
        """Forgotten, again, and with an id nobody knows; neighbours keep theirs."""
        client = await facade.client()
        await facade.work(echo)
        gone, kept = await client.submit(echo, 1), await client.submit(echo, 2)
        await client.collect([gone, kept], facade.context.patience)
        for _ in range(2):
            await client.forget([gone, "never-heard-of"])
            await gone.forget()
        fresh = client.handle(gone.id)
        assert not await fresh.ready()
        assert await client.handle(kept.id).result(facade.context.patience) == 2

    @facade_case(
        "result_unknown_id_not_pending",
        level="capability",
        needs={Capability.RESULTS, Capability.KNOWS_IDS},
        rationale="waiting for an id with a typo must not take for ever",
    )
    async def test_result_unknown_id_not_pending(self, facade: FacadeContext) -> None:
        """TaskNotFound at once, UNKNOWN as state; and once it is submitted the same handle works."""
        client = await facade.client()
        handle = client.handle("order-99")
        assert await handle.state() is TaskState.UNKNOWN
        assert not await handle.ready()
        await raised(handle.result(facade.context.patience), TaskNotFound)
        await raised(handle.wait(facade.context.patience), TaskNotFound)
        assert [one.state for one in await client.collect([handle], facade.context.patience)] == [TaskState.UNKNOWN]
        pending = await client.submit(echo, 1)
        assert await pending.state() is TaskState.PENDING
        await facade.work(echo)
        await client.submit(echo.options(task_id="order-99"), "known now")
        assert await handle.result(facade.context.patience) == "known now"

    @facade_case(
        "result_ids_known_if_told",
        level="capability",
        needs=NEEDS,
        rationale="who asks for an id with a typo gets an answer on every broker, at a price that he has agreed to",
    )
    async def test_result_ids_known_if_told(self, facade: FacadeContext) -> None:
        """With ``knows_ids`` an unknown id is told from a pending one, by everybody; what was refused, or forgotten, is
        unknown. Where there is nothing to keep ids in, the option is refused.
        """
        try:
            client, other = await facade.client(knows_ids=True), await facade.client(knows_ids=True)
        except UnsupportedError as error:
            facade.context.skip(f"refused: {error}")
        tasks = [await client.submit(echo, 1), *await client.submit_many([echo.call(2), echo.call(3)])]
        for one in tasks:
            assert await other.handle(one.id).state() is TaskState.PENDING
        await _insist_unknown(facade, other, "nope")
        facade.client_faults.refused = lambda _message: StorageFull("no room")
        await raised(client.submit(echo.options(task_id="refused"), 1), StorageFull)
        facade.client_faults.refused = lambda _message: None
        await _insist_unknown(facade, other, "refused")
        if await facade.context.has(Capability.DELAY):
            late = await client.submit(echo.options(delay=600), 1)
            assert await other.handle(late.id).state() is TaskState.SCHEDULED
        await facade.work(echo)
        found = await other.collect([other.handle(one.id) for one in tasks], facade.context.patience)
        assert [one.value for one in found] == [1, 2, 3]
        await client.forget([tasks[0]])
        await _insist_unknown(facade, other, tasks[0].id)
        unaware = await facade.client()
        assert await unaware.handle(tasks[1].id).result(facade.context.patience) == 2

    @facade_case(
        "result_unknown_id_wait_is_bounded",
        level="capability",
        needs=NEEDS,
        rationale="an id with a typo must not be waited for until the process ends, whatever the store can tell",
    )
    async def test_result_unknown_id_wait_is_bounded(self, facade: FacadeContext) -> None:
        """Without a timeout: an error that explains, for one and for many; a task that was submitted is waited for."""
        client = await facade.client(unknown_id_timeout=0.5)
        nobody = client.handle("nope")
        kind = TaskNotFound if await facade.context.has(Capability.KNOWS_IDS) else ResultTimeout
        error = await raised(asyncio.wait_for(nobody.result(), facade.context.patience), kind)
        assert "nope" in str(error)
        assert kind is TaskNotFound or "nobody has ever submitted it" in str(error)
        handle = await client.submit(echo, 1)
        (unfinished,) = await asyncio.wait_for(client.collect([nobody]), facade.context.patience)
        assert type(unfinished.exception()) is kind
        waiting = facade.context.start(client.collect([handle, nobody]))
        slow = facade.context.start(handle.result())
        await asyncio.wait({waiting, slow}, timeout=1.0)
        assert not waiting.done(), "the bound for what is unknown has cut a wait for what was submitted"
        assert not slow.done()
        await facade.work(echo)
        assert await asyncio.wait_for(slow, facade.context.patience) == 1
        found = await asyncio.wait_for(waiting, facade.context.patience)
        assert [one.success for one in found] == [True, False]

    @facade_case(
        "result_not_stored", level="capability", needs=NEEDS, rationale="an explicit error, not an empty answer"
    )
    async def test_result_not_stored(self, facade: FacadeContext) -> None:
        """store_result=False: the task runs, waiting raises ResultsDisabled at once, and nothing is stored."""
        client = await facade.client()
        seen: list[int] = []

        @task(name="kit.note", queue="q", store_result=False)
        async def note(value: int) -> int:
            seen.append(value)
            return value

        await facade.work(note, echo)
        handle = await client.submit(note, 7)
        await raised(handle.result(facade.context.patience), ResultsDisabled)
        await raised(handle.wait(facade.context.patience), ResultsDisabled)
        await raised(client.collect([handle], facade.context.patience), ResultsDisabled)

        await facade.until(lambda: seen == [7], "the task runs")
        kept = await client.submit(echo, 1)
        await kept.result(facade.context.patience)
        (stored,) = await (await facade.context.open_results()).results().get_many([handle.id])
        assert not stored.state.terminal

    @facade_case(
        "result_transient_error_retried",
        level="capability",
        needs=NEEDS,
        rationale="an outage shorter than a wait is nothing",
    )
    async def test_result_transient_error_retried(self, facade: FacadeContext) -> None:
        """The store is down when somebody begins to wait for what is there already: it waits that out."""
        client, store = await facade.client(), await facade.context.open_results()
        # Of a task that this client has not submitted: what is pushed to it would not have to be read.
        task_id = new_id()
        await store.results().put([facade.context.result(task_id, 1)])
        facade.client_faults.fail("get_many", BrokerUnreachable, times=4)
        assert await client.handle(task_id).result(facade.context.patience) == 1
        # Some brokers tell who subscribes what is there already: then it need not be read again.
        assert facade.client_faults.hit["get_many"] >= 1
        facade.client_faults.fail("get_many", BrokerRefused, times=9)
        await raised(client.handle(new_id()).result(facade.context.patience), BrokerRefused)


async def _insist_unknown(facade: FacadeContext, client: FacadeClient, task_id: str) -> None:
    handle = client.handle(task_id)
    assert await handle.state() is TaskState.UNKNOWN
    await raised(handle.result(facade.context.patience), TaskNotFound)
