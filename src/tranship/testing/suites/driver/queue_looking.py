"""What a driver's queue tells of what waits, and what a consumer takes with."""

from __future__ import annotations

import asyncio
import time

from tranship.driver import (
    Counting,
    End,
    Ending,
    Finding,
    Peeking,
    Picking,
    Reading,
    Scanning,
    Searching,
    Taken,
    Watching,
)
from tranship.envelope import Priority, new_id
from tranship.ports import Settled
from tranship.testing.case import case
from tranship.testing.context import CaseContext
from tranship.testing.suites.driver._queue_tools import (
    end_all,
    hears,
    id_of,
    need,
    new_messages,
    send_all,
    slots_of,
    take_some,
    traits,
)

__all__ = ["LookingCases", "PeekingCases", "ReadingCases"]


class LookingCases:
    """What can be seen without taking it."""

    @case(
        "queue_watch_wakes", level="capability", rationale="a worker that is not woken is late, or looks all the time"
    )
    async def test_queue_watch_wakes(self, context: CaseContext) -> None:
        """Told of what is sent and of what is requeued over another connection, on its own loop; not after undo."""
        connection, other = await context.connect(), await context.connect()
        queue = connection.queue
        if not isinstance(queue, Watching):
            context.skip("the queue cannot be watched")
        heard = asyncio.Event()
        undo = queue.watch(slots_of(), heard.set)
        for _ in range(2):
            heard.clear()
            await other.queue.send(new_messages(context, 1))
            await hears(context, heard, "a message that was sent")
        (held, *_) = await take_some(other, 1)
        heard.clear()
        await end_all(other, End.REQUEUE, held)
        await hears(context, heard, "a message that was requeued")
        undo()
        undo()

    @case("queue_find_tells_state", level="capability", rationale="a task that cannot be found cannot be cancelled")
    async def test_queue_find_tells_state(self, context: CaseContext) -> None:
        """By id or by key, ready or held, each once; nothing else."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Finding) or traits(connection).finds != "all":
            context.skip("the queue has no index of everything")
        one, two, other = [*new_messages(context, 2, cancel_key="k"), *new_messages(context, 1)]
        await queue.send([one])
        (held,) = await take_some(connection, 1)
        await queue.send([two, other])
        by_key = {found.facts.id: found.state for found in await queue.find([], ["k"])}
        assert by_key == {one.id: "held", two.id: "ready"}
        by_id = [
            (found.facts.id, found.state, found.facts.queue) for found in await queue.find([other.id, new_id()], [])
        ]
        assert by_id == [(other.id, "ready", "q")]
        await end_all(connection, End.REMOVE, held)
        assert not list(await queue.find([one.id], []))

    @case("queue_scan_in_order", level="capability", rationale="whoever moves a backlog must move it in its order")
    async def test_queue_scan_in_order(self, context: CaseContext) -> None:
        """What is ready as it would be taken, what is delayed as it becomes due; no more than asked for."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Scanning):
            context.skip("the queue cannot be looked through")
        sent = await send_all(connection, [*new_messages(context, 3), *new_messages(context, 1, queue="other")])
        assert [one.facts.id for one in await queue.scan("q", "ready", 2)] == [one.id for one in sent[:2]]
        if traits(connection).delays:
            now = time.time()
            (late,), (later,) = (new_messages(context, 1, not_before=now + after) for after in (500, 900))
            await queue.send([later, late])
            assert [one.facts.id for one in await queue.scan("q", "delayed", 5)] == [late.id, later.id]
        assert not list(await queue.scan("q", "held", 5))

    @case("queue_pick_takes_exactly", level="capability", rationale="a cancel must not take what it does not name")
    async def test_queue_pick_takes_exactly(self, context: CaseContext) -> None:
        """Those that nobody holds, each once; the others stay where they are."""
        connection, other = await context.connect(), await context.connect()
        queue = connection.queue
        if not isinstance(queue, Finding) or not isinstance(queue, Picking) or traits(connection).finds != "all":
            context.skip("single messages cannot be taken")
        held, wanted, left = await send_all(connection, new_messages(context, 3))
        refs = {found.facts.id: found.ref for found in await queue.find([held.id, wanted.id, left.id], [])}
        (taken,) = await take_some(other, 1)
        again = {one.id for one in (held, wanted, left)} - {id_of(taken)}
        name = min(again)
        picked = await queue.pick([refs[id_of(taken)], refs[name]])
        assert [id_of(one) for one in picked] == [name], "what another one holds was taken, or too much"
        await end_all(connection, End.REMOVE, *picked)
        assert {id_of(one) for one in await take_some(connection, 5)} == again - {name}

    @case("queue_search_finds", level="capability", rationale="the one task that is in the way cannot be named")
    async def test_queue_search_finds(self, context: CaseContext) -> None:
        """By id, ready on any level and delayed, in this queue only; nothing that somebody holds."""
        connection, other = await context.connect(), await context.connect()
        queue = connection.queue
        if not isinstance(queue, Searching) or not isinstance(queue, Picking):
            context.skip("the queue cannot be searched")
        held, wanted, left = await send_all(connection, new_messages(context, 3))
        (low,) = await send_all(connection, new_messages(context, 1, priority=Priority.LOW))
        (elsewhere,) = await send_all(connection, new_messages(context, 1, queue="other"))
        (late,) = await send_all(connection, new_messages(context, 1, not_before=time.time() + 500))
        (taken,) = await take_some(other, 1)
        assert id_of(taken) == held.id
        named = [one.id for one in (held, wanted, low, elsewhere, late)]
        seen = await queue.search("q", [*named, new_id()])
        assert {one.facts.id: one.state for one in seen} == {wanted.id: "ready", low.id: "ready", late.id: "delayed"}
        picked = await queue.pick([one.ref for one in seen])
        assert {id_of(one) for one in picked} == {wanted.id, low.id, late.id}
        await end_all(connection, End.REMOVE, *picked)
        assert not list(await queue.search("q", named))
        assert [one.facts.id for one in await queue.search("q", [left.id])] == [left.id]

    @case("queue_find_delayed", level="capability", rationale="a task that is cancelled a day ahead runs all the same")
    async def test_queue_find_delayed(self, context: CaseContext) -> None:
        """What is not due is found by its id, can be taken and removed, and is then found no more."""
        connection = await context.connect()
        queue = connection.queue
        need(context, traits(connection).delays, "delays")
        if not isinstance(queue, Finding) or not isinstance(queue, Picking):
            context.skip("single messages cannot be taken")
        late, other = await send_all(connection, new_messages(context, 2, not_before=time.time() + 500))
        seen = await queue.find([late.id], [])
        assert [(one.facts.id, one.facts.queue, one.state) for one in seen] == [(late.id, "q", "delayed")]
        (found, *_) = seen
        (taken,) = await queue.pick([found.ref])
        assert id_of(taken) == late.id
        await end_all(connection, End.REMOVE, taken)
        assert not list(await queue.find([late.id], []))
        assert not list(await queue.pick([found.ref])), "it was taken a second time"
        assert [one.facts.id for one in await queue.find([other.id], [])] == [other.id]

    @case("queue_counts", level="capability", rationale="alarms and autoscaling act on these numbers")
    async def test_queue_counts(self, context: CaseContext) -> None:
        """Ready by level and held, of each queue with something in it."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Counting):
            context.skip("the queue does not count")
        assert not list(await queue.queues())
        await queue.send([*new_messages(context, 3), *new_messages(context, 2, queue="p")])
        (held,) = await take_some(connection, 1)
        p, q = sorted(await queue.queues(), key=lambda info: info.name)
        assert (p.name, p.ready[Priority.NORMAL], p.in_flight or 0) == ("p", 2, 0)
        assert (q.name, q.ready[Priority.NORMAL]) == ("q", 2)
        assert q.in_flight in (1, None), "None: it cannot tell"
        await end_all(connection, End.REMOVE, held)


class PeekingCases:
    """What is looked at."""

    @case(
        "queue_peek_changes_nothing",
        level="capability",
        rationale="what an operator looks at must not be another message for it",
    )
    async def test_queue_peek_changes_nothing(self, context: CaseContext) -> None:
        """As many as there are, each as it was however often it is looked at, and nobody else's until it is ended."""
        connection, other = await context.connect(), await context.connect()
        queue = connection.queue
        if not isinstance(queue, Peeking):
            context.skip("the queue cannot peek: the kit takes what it looks at")
        assert not list(await queue.peek("q", 3))
        sent = new_messages(context, 5, body=bytes(range(256)))
        await queue.send(sent)
        for _ in range(3):
            seen = [*await queue.peek("q", 3), *await queue.peek("q", 3)]
            assert sorted(map(id_of, seen)) == sorted(one.id for one in sent)
            assert {bytes(one.opened()[1].body) for one in seen} == {bytes(range(256))}
            assert {one.queue for one in seen} == {"q"}
            assert not await take_some(other, 1), "somebody else has it, too"
            await end_all(connection, End.RELEASE, *seen)
        gone, *there = await queue.peek("q", 5)
        await end_all(connection, End.REMOVE, gone)
        await end_all(connection, End.RELEASE, *there)
        left = await queue.peek("q", 5)
        assert sorted(map(id_of, left)) == sorted(map(id_of, there))
        await end_all(connection, End.RELEASE, *left)


class ReadingCases:
    """What consumers take with."""

    @case("queue_reader", level="capability", rationale="what a consumer leaves behind waits for its process to end")
    async def test_queue_reader(self, context: CaseContext) -> None:
        """Two take beside each other; what one has is to be had again once that is closed, the other keeps its own."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Reading):
            context.skip("consumers have nothing of their own")
        leaving, staying = queue.reader(), queue.reader()
        messages = new_messages(context, 3)
        assert list(await queue.send(messages)) == [None] * 3
        (kept,) = (await staying.take(slots_of(), 1, 1.0)).items
        (left,) = (await leaving.take(slots_of(), 1, 1.0)).items
        await leaving.aclose()
        found: list[Taken] = []

        async def all_found() -> bool:
            found.extend((await staying.take(slots_of(), 3, 0.2)).items)
            return len(found) >= 2

        await context.eventually(all_found, "what it had taken, or held, is to be had again")
        assert sorted(map(id_of, [kept, *found])) == sorted(one.id for one in messages)
        assert list(await queue.end([Ending(left.token, End.REMOVE)])) == [Settled.LOST]
        await end_all(connection, End.REMOVE, kept, *found)
        await staying.aclose()
