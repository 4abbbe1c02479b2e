"""Handing tasks over through a client."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from tranship.envelope import TaskState, new_id
from tranship.errors import (
    BatchSubmitError,
    BrokerUnreachable,
    InvalidArgumentsError,
    InvalidOptionError,
    MessageTooLarge,
    QueueUnread,
    StorageFull,
    SubmitTimeout,
    SubmitUnknown,
    TranshipError,
)
from tranship.ports import Capability
from tranship.protocol import Message
from tranship.task import Task, named, task
from tranship.testing.context import ids_of
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import FacadeClient, raised

__all__ = ["SubmitCases", "add", "echo"]


@task(name="kit.add", queue="q")
async def add(left: int, right: int) -> int:
    """Add."""
    return left + right


@task(name="kit.fields", queue="q")
async def fields(**named: object) -> dict[str, object]:
    """Return the keyword arguments."""
    return named


@task(name="kit.echo", queue="q")
def echo(value: object) -> object:
    """Return what came."""
    return value


class SubmitCases:
    """Part of the facade's suite."""

    @facade_case(
        "unread_queue_refused",
        level="capability",
        needs={Capability.CONTROL},
        rationale="a name with a mistake in it would wait for ever",
    )
    async def test_unread_queue_refused(self, facade: FacadeContext) -> None:
        """To a queue that nobody reads nothing is submitted by name, if that was said; once a worker does, it is."""
        client = await facade.client(unread_queues="refuse")
        elsewhere = named("kit.echo", queue="q")
        error = await raised(client.submit(elsewhere, 1), QueueUnread)
        assert (error.queue, error.retryable) == ("q", True)
        await raised(client.submit_many([named("kit.echo", queue="p").call(1)]), QueueUnread)
        await client.submit(echo.options(queue="p"), 1)
        await facade.work(echo)

        async def accepted() -> bool:
            try:
                await client.submit(elsewhere, 2)
            except QueueUnread:
                return False
            return True

        await facade.context.eventually(accepted, "the worker is known")
        await raised(client.submit(named("kit.echo", queue="p"), 1), QueueUnread)

    @facade_case(
        "facade_round_trip", level="capability", needs={Capability.RESULTS}, rationale="the main road must be open"
    )
    async def test_facade_round_trip(self, facade: FacadeContext) -> None:
        """By task, by options, by call, by name and by handle: the value comes back."""
        client = await facade.client()
        await facade.work(add, echo)
        handles = [
            await client.submit(add, 1, right=2),
            await client.submit(add.options(**await _urgent(facade)), 1, 2),
            await client.submit(add.call(1, 2)),
            await client.submit(named("kit.add", queue="q"), 1, 2),
        ]
        handles.append(client.handle(handles[0].id))
        assert [await handle.result(facade.context.patience) for handle in handles] == [3] * 5
        assert await handles[0].state() is TaskState.SUCCESS
        many = await client.submit_many(echo.call([number, "é", None]) for number in range(20))
        found = await client.collect(many, facade.context.patience)
        assert [one.value for one in found] == [[number, "é", None] for number in range(20)]
        assert await client.ping() >= 0
        assert (await client.probe("q", facade.context.patience)).ok

    @facade_case(
        "argument_names_are_the_tasks_own",
        level="capability",
        needs={Capability.RESULTS},
        rationale="what a task calls its arguments is its own business: self, task and timeout are names like others",
    )
    async def test_argument_names_are_the_tasks_own(self, facade: FacadeContext) -> None:
        """Keyword arguments called as our own parameters are arrive, by task, options, call and name."""
        client = await facade.client()
        await facade.work(fields)
        names = ("self", "task", "args", "kwargs", "call", "function", "name", "timeout", "options", "client", "cls")
        given = {name: number for number, name in enumerate(names)}
        handles = [
            await client.submit(fields, **given),
            await client.submit(fields.options(**await _urgent(facade)), **given),
            await client.submit(fields.options(run_timeout=30).call(**given)),
            await client.submit(named("kit.fields", queue="q"), **given),
        ]
        assert [await handle.result(facade.context.patience) for handle in handles] == [given] * 4
        assert await fields(**given) == given
        assert Task.__call__(fields, **given).close() is None

    @facade_case(
        "durations_may_be_timedeltas",
        level="capability",
        needs={Capability.RESULTS},
        rationale="a length of time has a type in Python, and it says its unit",
    )
    async def test_durations_may_be_timedeltas(self, facade: FacadeContext) -> None:
        """A timedelta is as good as seconds, in every option and every wait; one that is negative is refused."""
        client = await facade.client(submit_timeout=timedelta(seconds=10))
        await facade.work(echo)
        minute, patience = timedelta(minutes=1), timedelta(seconds=facade.context.patience)
        quick = echo.options(deadline_in=minute, run_timeout=minute, result_ttl=minute)
        if await facade.context.has(Capability.DELAY):
            quick = quick.options(delay=timedelta(0))
        handle = await client.submit(quick, 1)
        assert await handle.result(patience) == 1
        assert [one.value for one in await client.collect([handle], patience)] == [1]
        for name in ("deadline_in", "run_timeout", "delay", "dedup_window", "result_ttl"):
            await raised(_with_options(client, {name: timedelta(-1)}), InvalidOptionError)
        await raised(client.handle(handle.id).wait(timedelta(-1)), InvalidOptionError)
        await raised(_with_options(client, {"deadline": minute}), InvalidOptionError)

    @facade_case("submit_checks_first", level="core", rationale="a mistake must be told to who makes it, not to a log")
    async def test_submit_checks_first(self, facade: FacadeContext) -> None:
        """Wrong arguments, values that cannot be written, sizes and options: refused, and nothing is sent."""
        client = await facade.client()
        await client.ping()
        wrong: list[tuple[type[TranshipError], Task[..., object], tuple[object, ...]]] = [
            (InvalidArgumentsError, add, (1,)),
            (InvalidArgumentsError, add, (1, 2, 3)),
            (TranshipError, echo, (object(),)),
        ]
        for kind, one, args in wrong:
            await raised(client.submit(one, *args), kind)
            await raised(_many(client, echo, one, args), kind)
        await raised(client.submit(object()), InvalidArgumentsError)
        bad: list[dict[str, object]] = [{"priority": "urgent"}, {"deadline_in": -1}, {"run_timeout": 0}, {"prio": 1}]
        bad += [{"queue": "two\nlines"}, {"queue": "x" * 256}, {"headers": {"a\n": 1}}, {"task_id": "x" * 256}]
        bad += [{name: "file-\udcff"} for name in ("queue", "cancel_key", "dedup_key", "task_id")]
        for options in bad:
            await raised(_with_options(client, options), InvalidOptionError)
        assert facade.client_faults.calls["submit"] == 0, "something was sent"
        await facade.context.quiet((await facade.context.open()).consumer(["q"]), 0.1)

    @facade_case(
        "accepted_names_are_only_names",
        level="capability",
        needs={Capability.RESULTS, Capability.CONTROL},
        rationale="what a broker's own language makes of a name is not the caller's business: accepted means it works",
    )
    async def test_accepted_names_are_only_names(self, facade: FacadeContext) -> None:
        """A queue, an id and keys full of wildcards, quotes, separators and long words: run, recognised, cancelled."""
        client = await facade.client()
        queue = 'q ü漢"\\.*>{}#[a-z]?:~$' + "l" * 150
        salt = new_id()
        for odd in ("two\nlines\r\u2028\u202e", "a.b.*.>", "{x}:#[a-z]?'\"\\ %s", "é" * 100):
            there = echo.options(queue=queue, task_id=f"{odd[:100]}{salt}", cancel_key=f"{odd}{salt}")
            first = await client.submit(there, odd)
            worker = await facade.work(echo, queues=[queue])
            assert await first.result(facade.context.patience) == odd
            await facade.stop(worker)
            await client.cancel(f"{odd}{salt}")
            later = await client.submit(there.options(task_id=f"{odd[:100]}{salt}-2"), odd)
            # One that begins knows what is cancelled; one that is at work may hear of it after the submit.
            worker = await facade.work(echo, queues=[queue])
            assert (await later.wait(facade.context.patience)).state is TaskState.CANCELLED
            await facade.stop(worker)

    @facade_case("submit_max_size", level="core", rationale="too large a task must be refused before anything is sent")
    async def test_submit_max_size(self, facade: FacadeContext) -> None:
        """Over the limit: MessageTooLarge with both numbers; in a batch nothing at all is sent."""
        backend = await facade.context.open()
        limit = backend.submitter().max_message_size
        client = await facade.client()
        error = await raised(client.submit(echo, "x" * limit), MessageTooLarge)
        assert isinstance(error, MessageTooLarge)
        assert (error.limit, error.size > limit) == (limit, True)
        await raised(client.submit_many([echo.call(1), echo.call("x" * limit)]), MessageTooLarge)
        await facade.context.quiet(backend.consumer(["q"]), 0.1)

    @facade_case(
        "submit_deadline_on_outage", level="core", rationale="who cannot submit must know it in time, and for certain"
    )
    async def test_submit_deadline_on_outage(self, facade: FacadeContext) -> None:
        """Unreachable: SubmitTimeout in time, and the task never comes, not even when the broker is back."""
        client = await facade.client(submit_timeout=1.0)
        facade.client_faults.fail("submit", BrokerUnreachable, times=-1)
        started = time.monotonic()
        error = await raised(client.submit(echo, 1), SubmitTimeout)
        elapsed = time.monotonic() - started
        assert elapsed < 4.0, f"told after {elapsed:.2f} s, with a submit timeout of 1 s"
        assert error.task_id
        assert facade.client_faults.hit["submit"] > 1, "it was not tried again"
        facade.client_faults.clear("submit")
        later = await client.submit(echo, 2)
        consumer = (await facade.context.open()).consumer(["q"])
        assert await facade.context.drain(consumer, 1) == [later.id]
        await facade.context.quiet(consumer, 0.3)

    @facade_case(
        "submit_deadline_on_hang", level="core", rationale="a broker that says nothing must not hang its users"
    )
    async def test_submit_deadline_on_hang(self, facade: FacadeContext) -> None:
        """No answer: SubmitUnknown, not SubmitTimeout, in time; who submits later is not held up."""
        client = await facade.client(submit_timeout=1.0)
        facade.client_faults.stall("submit")
        started = time.monotonic()
        hanging = facade.context.start(client.submit(echo, 1))
        await facade.until(lambda: facade.client_faults.hit["submit"] >= 1, "the submit hangs")
        await client.submit(echo, 2)
        assert not hanging.done(), "the second was held up by the first"
        await raised(hanging, SubmitUnknown)
        assert time.monotonic() - started < 4.0
        facade.client_faults.release("submit")

    @facade_case(
        "submit_again_after_unknown",
        level="capability",
        needs={Capability.RETRY_SAFE},
        rationale="a lost answer must neither lose a task nor run it twice",
    )
    async def test_submit_again_after_unknown(self, facade: FacadeContext) -> None:
        """The answer is lost with the task stored, then without: one handle each, one delivery each."""
        client = await facade.client()
        handles = []
        for after in (True, False):
            facade.client_faults.fail("submit", SubmitUnknown, after=after, times=2)
            handles.append(await client.submit(await _recognised(facade), 1))
            assert not handles[-1].duplicate
        assert facade.client_faults.hit["submit"] == 4
        consumer = (await facade.context.open()).consumer(["q"])
        assert sorted(await facade.context.drain(consumer, 2)) == sorted(handle.id for handle in handles)
        await facade.context.quiet(consumer, 0.2)

    @facade_case("submit_unknown_is_told", level="core", rationale="where nobody can know, nobody may claim to know")
    async def test_submit_unknown_is_told(self, facade: FacadeContext) -> None:
        """The answer is lost each time: SubmitUnknown, and at most one delivery."""
        client = await facade.client(submit_timeout=0.5)
        facade.client_faults.fail("submit", SubmitUnknown, after=True, times=-1)
        error = await raised(client.submit(await _recognised(facade), 1), SubmitUnknown)
        facade.client_faults.clear("submit")
        last = await client.submit(echo, 2)
        assert set(await facade.context.drain((await facade.context.open()).consumer(["q"]), 2)) == {
            error.task_id,
            last.id,
        }

    @facade_case("submit_batch_partial_failure", level="core", rationale="one bad task must not take its batch along")
    async def test_submit_batch_partial_failure(self, facade: FacadeContext) -> None:
        """The broker refuses two of ten: BatchSubmitError says which and why; the others are there, in order."""
        client = await facade.client()
        bad = {3, 7}
        facade.client_faults.refused = lambda message: _full(message) if message.envelope.args[0] in bad else None
        try:
            await client.submit_many(echo.call(number) for number in range(10))
        except BatchSubmitError as caught:
            error = caught
        else:
            raise AssertionError("a batch with two refused tasks was reported as submitted")
        assert set(error.errors) == bad
        assert {type(one) for one in error.errors.values()} == {StorageFull}
        assert [number for number, handle in enumerate(error.handles) if handle is None] == sorted(bad)
        expected = [handle.id for handle in error.handles if handle is not None]
        got = await facade.context.drain((await facade.context.open()).consumer(["q"]), 8)
        ordered = await facade.context.has(Capability.ORDERED)
        assert got == expected if ordered else sorted(got) == sorted(expected)

    @facade_case("submit_large_batch", level="core", rationale="a batch of any length is one call")
    async def test_submit_large_batch(self, facade: FacadeContext) -> None:
        """2,500 tasks, more than travel at once: handles in order, all distinct, and few round trips."""
        client = await facade.client()
        handles = await client.submit_many(echo.call(number) for number in range(2500))
        assert len({handle.id for handle in handles}) == 2500
        assert facade.client_faults.calls["submit"] <= 5
        consumer = (await facade.context.open()).consumer(["q"])
        got: set[str] = set()
        while len(got) < 2500:
            batch = await facade.context.receive(consumer, 1)
            got |= set(ids_of(batch))
            batch = list((await consumer.receive(1000, 0.0)).deliveries)
            got |= set(ids_of(batch))
        assert got == {handle.id for handle in handles}
        assert await client.submit_many([]) == []

    @facade_case(
        "submit_dedup_returns_first",
        level="capability",
        needs={Capability.KEY_WINDOW, Capability.RESULTS},
        rationale="who is second must be able to wait for the first",
    )
    async def test_submit_dedup_returns_first(self, facade: FacadeContext) -> None:
        """The second handle follows the first task and says so; another key is another task."""
        client = await facade.client()
        once = echo.options(dedup_key="k1")
        first, second = await client.submit(once, "first"), await client.submit(once, "second")
        other = await client.submit(echo.options(dedup_key="k2"), "other")
        assert (first.duplicate, second.duplicate, other.duplicate) == (False, True, False)
        assert second.id == first.id != other.id
        await facade.work(echo)
        assert await second.result(facade.context.patience) == "first"
        assert await other.result(facade.context.patience) == "other"

    @facade_case(
        "submit_own_id_twice",
        level="capability",
        needs={Capability.RETRY_SAFE, Capability.RESULTS},
        rationale="an id is one task",
    )
    async def test_submit_own_id_twice(self, facade: FacadeContext) -> None:
        """Queued, and again after it has ended: the second submit is a duplicate that follows the first."""
        client = await facade.client()
        mine = echo.options(task_id="order-17")
        first, second = await client.submit(mine, 1), await client.submit(mine, 2)
        assert (first.id, first.duplicate) == ("order-17", False)
        assert (second.id, second.duplicate) == ("order-17", True)
        worker = await facade.work(echo)
        assert await second.result(facade.context.patience) == 1
        third = await client.submit(mine, 3)
        assert third.duplicate
        assert await third.result(facade.context.patience) == 1
        await client.submit(echo, None)
        await facade.until(lambda: worker.status().done == 2, "the worker has nothing more to do")


async def _recognised(facade: FacadeContext) -> Task[..., object]:
    """Return a task that is recognised when it comes again: some backends know only ids that were checked before."""
    support = (await facade.context.capabilities())[Capability.RETRY_SAFE]
    return echo.options(task_id=new_id()) if support.properties.get("among") == "checked" else echo


async def _many(
    client: FacadeClient, good: Task[..., object], bad: Task[..., object], args: tuple[object, ...]
) -> None:
    await client.submit_many([good.call(1), bad.call(*args)])


async def _urgent(facade: FacadeContext) -> dict[str, Any]:
    """Return an option that differs from the task's own, where the broker has any use for it."""
    return {"priority": "high"} if await facade.context.has(Capability.PRIORITY) else {"run_timeout": 30}


async def _with_options(client: FacadeClient, options: dict[str, object]) -> None:
    await client.submit(echo.options(**options), 1)  # type: ignore[arg-type]  # wrong on purpose


def _full(message: Message) -> StorageFull:
    return StorageFull("no room for this one, on purpose", task_id=message.envelope.id)
