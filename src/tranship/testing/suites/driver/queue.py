"""What the queue of a driver promises, below the ports: what is sent is there once, and whose it is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from tranship.driver import (
    Answer,
    Connection,
    Counting,
    End,
    Ending,
    Finding,
    Outgoing,
    Peeking,
    Picking,
    Posting,
    QueueTraits,
    Reading,
    Recalling,
    Renewing,
    Row,
    Scanning,
    Searching,
    Slot,
    Table,
    Taken,
    Watching,
)
from tranship.envelope import Priority, new_id
from tranship.errors import SubmitUnknown, TranshipError
from tranship.ports import CountKind, Settled
from tranship.testing.case import case
from tranship.testing.context import CaseContext

__all__ = ["QueueSuite"]

_LEASE = 0.6
_DONE = (Settled.CONFIRMED, Settled.SENT)


class _Sending:
    """What is sent, and taken."""

    @case(
        "queue_send_answers_each", level="core", rationale="a message that is not answered for is lost, or sent twice"
    )
    async def test_queue_send_answers_each(self, context: CaseContext) -> None:
        """Each is answered with None, and comes once as it was: bytes or message, queue and level."""
        connection = await context.connect()
        sent = {one.id: one for one in _messages(context, 5, body=bytes(range(256)))}
        assert list(await connection.queue.send(list(sent.values()))) == [None] * 5
        taken = await _take(connection, 5)
        assert Counter(map(_id, taken)) == Counter(list(sent))
        for one in taken:
            assert (one.queue, one.priority) == ("q", Priority.NORMAL)
            assert bytes(one.opened()[1].body) == bytes(range(256))
        assert not await _take(connection, 1)

    @case("queue_post_answers_each", level="capability", rationale="an answer that never comes is waited for in vain")
    async def test_queue_post_answers_each(self, context: CaseContext) -> None:
        """``done`` is called once for each batch, with an answer for each, on the loop, and all of it is there."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Posting):
            context.skip("the queue cannot post")
        batches = [_messages(context, size) for size in (1, 3, 1)]
        said: list[tuple[int, asyncio.AbstractEventLoop, Sequence[Answer] | Exception]] = []

        def done(number: int, answers: Sequence[Answer] | Exception) -> None:
            said.append((number, asyncio.get_running_loop(), answers))

        for number, batch in enumerate(batches):
            queue.post(batch, partial(done, number))

        async def all_said() -> bool:
            return len(said) >= len(batches)

        await context.eventually(all_said, "each batch is answered")
        assert sorted(number for number, _, _ in said) == [0, 1, 2], said
        assert {loop for _, loop, _ in said} == {asyncio.get_running_loop()}
        for number, _, answers in said:
            assert not isinstance(answers, Exception), answers
            assert list(answers) == [None] * len(batches[number])
        sent = [one.id for batch in batches for one in batch]
        assert Counter(map(_id, await _take(connection, 9))) == Counter(sent)

    @case(
        "queue_recall_tells",
        level="capability",
        rationale="who is told that nobody knows has to submit twice, or perhaps never",
    )
    async def test_queue_recall_tells(self, context: CaseContext) -> None:
        """Of what was under way when its connection went, a later one says what is stored: just that comes, once."""
        connection = await context.connect()
        if not isinstance(connection.queue, Recalling):
            context.skip("the queue cannot recall")
        answered: dict[int, Sequence[Answer] | Exception] = {}
        batches = [_messages(context, 3) for _ in range(20)]
        for number, batch in enumerate(batches):
            connection.queue.post(batch, partial(answered.__setitem__, number))
            if number == len(batches) // 2:
                await asyncio.sleep(0)  # some of it is on its way, some is not
        connection.abort()

        async def all_answered() -> bool:
            return len(answered) == len(batches)

        await context.eventually(all_answered, "each batch is answered when the connection goes")
        later = await context.connect()
        assert isinstance(later.queue, Recalling)
        lost = [batch for number, batch in enumerate(batches) if not _is_definite(answered[number])]
        found = await later.queue.recall(lost)
        assert [len(one) for one in found] == [3] * len(lost)
        told = dict(zip(map(id, lost), found, strict=True))
        stored = [
            one.id
            for number, batch in enumerate(batches)
            for one, answer in zip(batch, _answers(told.get(id(batch), answered[number])), strict=True)
            if answer is None
        ]
        assert not any(isinstance(answer, SubmitUnknown) for one in found for answer in one)
        assert Counter(map(_id, await _take(later, 100))) == Counter(stored)
        assert not await _take(later, 1), "what was not stored came later"

    @case("queue_take_limits", level="core", rationale="who asks for one and gets ten holds nine back from others")
    async def test_queue_take_limits(self, context: CaseContext) -> None:
        """No more than asked for, nothing from slots that were not asked for, nothing while there is nothing."""
        connection = await context.connect()
        empty = await connection.queue.take(_slots(), 5, 0.0)
        assert not empty.items
        assert empty.confirmed, "empty as the broker said, and not told so"
        await connection.queue.send([*_messages(context, 4), *_messages(context, 1, queue="other")])
        assert len(await _take(connection, 3)) == 3
        assert len(await _take(connection, 3)) == 1
        assert [one.queue for one in await _take(connection, 3, "other")] == ["other"]

    @case("queue_take_levels_in_order", level="capability", rationale="urgent is urgent only if it overtakes the rest")
    async def test_queue_take_levels_in_order(self, context: CaseContext) -> None:
        """The most urgent slot first, whatever was sent first."""
        connection = await context.connect()
        _need(context, traits(connection).levels, "levels")
        for level in reversed(Priority):
            await connection.queue.send(_messages(context, 2, priority=level))
        slots = [("q", level) for level in Priority]
        taken = [one for _ in range(4) for one in await _take(connection, 2, slots=slots)]
        assert [one.priority for one in taken] == sorted([*Priority, *Priority])

    @case("queue_keeps_order", level="capability", rationale="first come, first served; what comes back has its place")
    async def test_queue_keeps_order(self, context: CaseContext) -> None:
        """First in, first out over several sends; what is requeued is first, or last, as the trait says."""
        connection = await context.connect()
        order = traits(connection).order
        _need(context, order, "order")
        sent = [one.id for _ in range(4) for one in await _sent(connection, _messages(context, 3))]
        first, *rest = await _take(connection, 4)
        await _end(connection, End.REQUEUE, first)
        await _end(connection, End.REMOVE, *rest)
        left = [sent[0], *sent[4:]] if order == "keeps-place" else [*sent[4:], sent[0]]
        assert list(map(_id, await _take(connection, 12))) == left

    @case(
        "queue_take_waits", level="capability", rationale="a take that returns at once, again and again, is a busy loop"
    )
    async def test_queue_take_waits(self, context: CaseContext) -> None:
        """With the trait: about as long as it was told, and not longer than until something is there, be it sent
        elsewhere or given back here.
        """
        connection, other = await context.connect(), await context.connect()
        _need(context, traits(connection).waits, "waits")
        taking = context.start(connection.queue.take(_slots(), 1, context.patience))
        await context.wait_for(taking, 0.2)
        assert not taking.done(), "it did not wait"
        await other.queue.send(_messages(context, 1))
        await context.wait_for(taking, context.patience / 2)
        assert taking.done(), "it slept through what was sent"
        (held,) = taking.result().items
        again = context.start(connection.queue.take(_slots(), 1, context.patience))
        await context.wait_for(again, 0.2)
        await _end(connection, End.REQUEUE, held)
        await context.wait_for(again, context.patience / 2)
        assert again.done(), "it slept through what was given back on its own connection"
        assert [_id(one) for one in again.result().items] == [_id(held)]

    @case("queue_unique", level="capability", rationale="a submit that is repeated after a lost answer runs twice")
    async def test_queue_unique(self, context: CaseContext) -> None:
        """With the trait: an id that is queued or held is answered with itself, and is there once; a retry of it, and
        what is replayed, has a mark and is another message.
        """
        connection = await context.connect()
        _need(context, traits(connection).unique, "unique")
        (one,) = await _sent(connection, _messages(context, 1))
        one.unless = "xx/none" if traits(connection).fuses else None
        assert list(await connection.queue.send([one])) == [one.id]
        (held,) = await _take(connection, 5)
        assert list(await connection.queue.send([one])) == [one.id]
        await _end(connection, End.REMOVE, held)
        assert not await _take(connection, 5)
        retry = Outgoing(one.facts, one.message, mark="retry-1")
        assert list(await connection.queue.send([retry])) == [None], "a retry was taken for the task before it"
        (held,) = await _take(connection, 5)
        await _end(connection, End.REMOVE, held)


class _Holding:
    """Whose message it is."""

    @case("queue_held_is_not_taken", level="core", rationale="one message in two hands is a task that runs twice")
    async def test_queue_held_is_not_taken(self, context: CaseContext) -> None:
        """Of 100 messages and five takers at once, over two connections, each is taken by one."""
        connections = [await context.connect(), await context.connect()]
        sent = await _sent(connections[0], _messages(context, 100))
        got: list[str] = []

        async def taker(connection: Connection) -> None:
            while taken := await _take(connection, 7):
                got.extend(map(_id, taken))

        await asyncio.gather(*(taker(connections[number % 2]) for number in range(5)))
        assert Counter(got) == Counter(one.id for one in sent)

    @case("queue_end_answers_each", level="core", rationale="a lost message that is told as done is never done")
    async def test_queue_end_answers_each(self, context: CaseContext) -> None:
        """Removed, requeued and released in one call, each with its answer; what was removed is gone."""
        connection = await context.connect()
        await connection.queue.send(_messages(context, 3))
        removed, requeued, released = await _take(connection, 3)
        answers = await connection.queue.end(
            [
                Ending(removed.token, End.REMOVE),
                Ending(requeued.token, End.REQUEUE),
                Ending(released.token, End.RELEASE),
            ]
        )
        assert [answer in _DONE for answer in answers] == [True] * 3, answers
        again = {_id(one): one.delivery_count for one in await _take(connection, 5)}
        assert set(again) == {_id(requeued), _id(released)}
        if traits(connection).counts is CountKind.EXACT:
            assert again == {_id(requeued): 2, _id(released): 1}

    @case("queue_end_twice_is_lost", level="core", rationale="a repeated end must not end somebody else's message")
    async def test_queue_end_twice_is_lost(self, context: CaseContext) -> None:
        """LOST the second time, whatever it was, and nothing changes."""
        connection = await context.connect()
        await connection.queue.send(_messages(context, 2))
        first, second = await _take(connection, 2)
        await _end(connection, End.REMOVE, first)
        await _end(connection, End.REQUEUE, second)
        for end in End:
            for one in (first, second):
                assert list(await connection.queue.end([Ending(one.token, end)])) == [Settled.LOST]
        assert [_id(one) for one in await _take(connection, 5)] == [_id(second)]

    @case("queue_renew_keeps", level="capability", rationale="a long task must not run beside itself")
    async def test_queue_renew_keeps(self, context: CaseContext) -> None:
        """Renewed for three leases it is nobody else's, and can be ended."""
        connection, other = await context.connect(lease=_LEASE), await context.connect(lease=_LEASE)
        queue = connection.queue
        if not isinstance(queue, Renewing) or traits(connection).lease is None:
            context.skip("the queue has no leases")
        await queue.send(_messages(context, 1))
        (held,) = await _take(connection, 1)
        until = time.monotonic() + 3 * _LEASE
        while time.monotonic() < until:
            assert list(await queue.renew([held.token])) == [True]
            assert not await _take(other, 1), "taken from its owner"
            await context.pass_time(_LEASE / 4)
        await _end(connection, End.REMOVE, held)

    @case(
        "queue_renew_tells_lost", level="capability", rationale="who believes that a lost task is his writes its result"
    )
    async def test_queue_renew_tells_lost(self, context: CaseContext) -> None:
        """After its lease somebody else has it: the first can neither renew nor end it, the second can."""
        connection, other = await context.connect(lease=_LEASE), await context.connect(lease=60)
        queue, rival = connection.queue, other.queue
        if not isinstance(queue, Renewing) or not isinstance(rival, Renewing) or traits(connection).lease is None:
            context.skip("the queue has no leases")
        await queue.send(_messages(context, 2))
        late, ended = await _take(connection, 2)
        await _end(connection, End.REMOVE, ended)

        async def taken_by_other() -> Sequence[Taken]:
            return await _take(other, 1)

        (mine,) = await context.eventually(taken_by_other, "a lease that is not renewed is over")
        assert list(await queue.renew([late.token, ended.token])) == [False, False]
        for end in End:
            assert list(await queue.end([Ending(late.token, end)])) == [Settled.LOST]
        assert list(await rival.renew([mine.token])) == [True]
        if traits(connection).counts is CountKind.EXACT:
            assert mine.delivery_count == 2
        await _end(other, End.REMOVE, mine)


class _Looking:
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
        undo = queue.watch(_slots(), heard.set)
        for _ in range(2):
            heard.clear()
            await other.queue.send(_messages(context, 1))
            await _told(context, heard, "a message that was sent")
        (held, *_) = await _take(other, 1)
        heard.clear()
        await _end(other, End.REQUEUE, held)
        await _told(context, heard, "a message that was requeued")
        undo()
        undo()

    @case("queue_find_tells_state", level="capability", rationale="a task that cannot be found cannot be cancelled")
    async def test_queue_find_tells_state(self, context: CaseContext) -> None:
        """By id or by key, ready or held, each once; nothing else."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Finding) or traits(connection).finds != "all":
            context.skip("the queue has no index of everything")
        one, two, other = [*_messages(context, 2, cancel_key="k"), *_messages(context, 1)]
        await queue.send([one])
        (held,) = await _take(connection, 1)
        await queue.send([two, other])
        by_key = {found.facts.id: found.state for found in await queue.find([], ["k"])}
        assert by_key == {one.id: "held", two.id: "ready"}
        by_id = [
            (found.facts.id, found.state, found.facts.queue) for found in await queue.find([other.id, new_id()], [])
        ]
        assert by_id == [(other.id, "ready", "q")]
        await _end(connection, End.REMOVE, held)
        assert not list(await queue.find([one.id], []))

    @case("queue_scan_in_order", level="capability", rationale="whoever moves a backlog must move it in its order")
    async def test_queue_scan_in_order(self, context: CaseContext) -> None:
        """What is ready as it would be taken, what is delayed as it becomes due; no more than asked for."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Scanning):
            context.skip("the queue cannot be looked through")
        sent = await _sent(connection, [*_messages(context, 3), *_messages(context, 1, queue="other")])
        assert [one.facts.id for one in await queue.scan("q", "ready", 2)] == [one.id for one in sent[:2]]
        if traits(connection).delays:
            now = time.time()
            late, later = _messages(context, 1, not_before=now + 500) + _messages(context, 1, not_before=now + 900)
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
        held, wanted, left = await _sent(connection, _messages(context, 3))
        refs = {found.facts.id: found.ref for found in await queue.find([held.id, wanted.id, left.id], [])}
        (taken,) = await _take(other, 1)
        again = {one.id for one in (held, wanted, left)} - {_id(taken)}
        name = min(again)
        picked = await queue.pick([refs[_id(taken)], refs[name]])
        assert [_id(one) for one in picked] == [name], "what another one holds was taken, or too much"
        await _end(connection, End.REMOVE, *picked)
        assert {_id(one) for one in await _take(connection, 5)} == again - {name}

    @case("queue_search_finds", level="capability", rationale="the one task that is in the way cannot be named")
    async def test_queue_search_finds(self, context: CaseContext) -> None:
        """By id, ready on any level and delayed, in this queue only; nothing that somebody holds."""
        connection, other = await context.connect(), await context.connect()
        queue = connection.queue
        if not isinstance(queue, Searching) or not isinstance(queue, Picking):
            context.skip("the queue cannot be searched")
        held, wanted, left = await _sent(connection, _messages(context, 3))
        (low,) = await _sent(connection, _messages(context, 1, priority=Priority.LOW))
        (elsewhere,) = await _sent(connection, _messages(context, 1, queue="other"))
        (late,) = await _sent(connection, _messages(context, 1, not_before=time.time() + 500))
        (taken,) = await _take(other, 1)
        assert _id(taken) == held.id
        named = [one.id for one in (held, wanted, low, elsewhere, late)]
        seen = await queue.search("q", [*named, new_id()])
        assert {one.facts.id: one.state for one in seen} == {wanted.id: "ready", low.id: "ready", late.id: "delayed"}
        picked = await queue.pick([one.ref for one in seen])
        assert {_id(one) for one in picked} == {wanted.id, low.id, late.id}
        await _end(connection, End.REMOVE, *picked)
        assert not list(await queue.search("q", named))
        assert [one.facts.id for one in await queue.search("q", [left.id])] == [left.id]

    @case("queue_find_delayed", level="capability", rationale="a task that is cancelled a day ahead runs all the same")
    async def test_queue_find_delayed(self, context: CaseContext) -> None:
        """What is not due is found by its id, can be taken and removed, and is then found no more."""
        connection = await context.connect()
        queue = connection.queue
        _need(context, traits(connection).delays, "delays")
        if not isinstance(queue, Finding) or not isinstance(queue, Picking):
            context.skip("single messages cannot be taken")
        late, other = await _sent(connection, _messages(context, 2, not_before=time.time() + 500))
        seen = await queue.find([late.id], [])
        assert [(one.facts.id, one.facts.queue, one.state) for one in seen] == [(late.id, "q", "delayed")]
        (found, *_) = seen
        (taken,) = await queue.pick([found.ref])
        assert _id(taken) == late.id
        await _end(connection, End.REMOVE, taken)
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
        await queue.send([*_messages(context, 3), *_messages(context, 2, queue="p")])
        (held,) = await _take(connection, 1)
        p, q = sorted(await queue.queues(), key=lambda info: info.name)
        assert (p.name, p.ready[Priority.NORMAL], p.in_flight or 0) == ("p", 2, 0)
        assert (q.name, q.ready[Priority.NORMAL]) == ("q", 2)
        assert q.in_flight in (1, None), "None: it cannot tell"
        await _end(connection, End.REMOVE, held)


class _Peeking:
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
        sent = _messages(context, 5, body=bytes(range(256)))
        await queue.send(sent)
        for _ in range(3):
            seen = [*await queue.peek("q", 3), *await queue.peek("q", 3)]
            assert sorted(map(_id, seen)) == sorted(one.id for one in sent)
            assert {bytes(one.opened()[1].body) for one in seen} == {bytes(range(256))}
            assert {one.queue for one in seen} == {"q"}
            assert not await _take(other, 1), "somebody else has it, too"
            await _end(connection, End.RELEASE, *seen)
        gone, *there = await queue.peek("q", 5)
        await _end(connection, End.REMOVE, gone)
        await _end(connection, End.RELEASE, *there)
        left = await queue.peek("q", 5)
        assert sorted(map(_id, left)) == sorted(map(_id, there))
        await _end(connection, End.RELEASE, *left)


class _Reading:
    """What consumers take with."""

    @case("queue_reader", level="capability", rationale="what a consumer leaves behind waits for its process to end")
    async def test_queue_reader(self, context: CaseContext) -> None:
        """Two take beside each other; what one has is to be had again once that is closed, the other keeps its own."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Reading):
            context.skip("consumers have nothing of their own")
        leaving, staying = queue.reader(), queue.reader()
        messages = _messages(context, 3)
        assert list(await queue.send(messages)) == [None] * 3
        (kept,) = (await staying.take(_slots(), 1, 1.0)).items
        (left,) = (await leaving.take(_slots(), 1, 1.0)).items
        await leaving.aclose()
        found: list[Taken] = []

        async def all_found() -> bool:
            found.extend((await staying.take(_slots(), 3, 0.2)).items)
            return len(found) >= 2

        await context.eventually(all_found, "what it had taken, or held, is to be had again")
        assert sorted(map(_id, [kept, *found])) == sorted(one.id for one in messages)
        assert list(await queue.end([Ending(left.token, End.REMOVE)])) == [Settled.LOST]
        await _end(connection, End.REMOVE, kept, *found)
        await staying.aclose()


class _Fusing:
    """What is one step with a verb; all with the trait ``fuses``."""

    @case(
        "queue_fused_end", level="capability", rationale="a result without its end runs twice, an end without it never"
    )
    async def test_queue_fused_end(self, context: CaseContext) -> None:
        """Rows are created and messages sent with the end of what is ours, and not with that of what is lost."""
        connection, table = await _fused(context)
        await connection.queue.send(_messages(context, 2))
        ours, lost = await _take(connection, 2)
        await _end(connection, End.REMOVE, lost)
        following, never = _messages(context, 2)
        endings = [
            Ending(ours.token, End.REMOVE, [Row("xx/ours", b"1")], [following]),
            Ending(lost.token, End.REMOVE, [Row("xx/lost", b"1")], [never]),
        ]
        answers = await connection.queue.end(endings)
        assert list(answers) == [Settled.CONFIRMED, Settled.LOST]
        assert [row is not None for row in await table.get(["xx/ours", "xx/lost"])] == [True, False]
        assert [_id(one) for one in await _take(connection, 5)] == [following.id]

    @case("queue_fused_end_first_row_wins", level="capability", rationale="a second result must not replace the first")
    async def test_queue_fused_end_first_row_wins(self, context: CaseContext) -> None:
        """A row that is there stays as it is, and the message is ended all the same."""
        connection, table = await _fused(context)
        await table.create([Row("xx/there", b"first")])
        await connection.queue.send(_messages(context, 1))
        (held,) = await _take(connection, 1)
        ending = Ending(held.token, End.REMOVE, [Row("xx/there", b"second")])
        assert list(await connection.queue.end([ending])) == [Settled.CONFIRMED]
        (row,) = await table.get(["xx/there"])
        assert row is not None
        assert row.value == b"first"

    @case(
        "queue_tells_what_it_creates", level="capability", rationale="who waits for a result must hear the stored one"
    )
    async def test_queue_tells_what_it_creates(self, context: CaseContext) -> None:
        """Of a row that is created, by itself or with an end, its word is heard; of one that was there, nothing."""
        connection, table = await _fused(context)
        _need(context, traits(connection).tells, "tells")
        topic = connection.topic
        assert topic is not None, "the queue tells of rows (traits.tells), but there is no topic"
        heard: dict[str, bytes] = {}
        names = [f"xx/{name}" for name in ("created", "ended", "there", "silent", "last")]
        topic.subscribe(names, heard.__setitem__)
        await topic.active()
        await table.create([Row("xx/there", b"first"), Row("xx/created", b"1", tell=b"one"), Row("xx/silent", b"2")])
        await connection.queue.send(_messages(context, 1))
        (held,) = await _take(connection, 1)
        ended = [Row("xx/there", b"second", tell=b"second"), Row("xx/ended", b"3", tell=b"three")]
        await connection.queue.end([Ending(held.token, End.REMOVE, ended)])
        await table.create([Row("xx/there", b"third", tell=b"third"), Row("xx/last", b"", tell=b"")])

        async def all_heard() -> bool:
            return "xx/last" in heard and "xx/ended" in heard

        await context.eventually(all_heard, "what was created is told of")
        assert heard == {"xx/created": b"one", "xx/ended": b"three", "xx/last": b""}

    @case("queue_fused_send", level="capability", rationale="a duplicate that slips through runs the job twice")
    async def test_queue_fused_send(self, context: CaseContext) -> None:
        """``first`` is taken by one id, ``unless`` by none: others are answered, and not stored."""
        connection, table = await _fused(context)
        one, twin, known = _messages(context, 3)
        one.first, twin.first = Row("xx/key", one.id.encode()), Row("xx/key", twin.id.encode())
        await table.create([Row("xx/known", b"")])
        known.unless = "xx/known"
        assert list(await connection.queue.send([one, twin, known])) == [None, one.id, known.id]
        taken = await _take(connection, 5)
        assert [_id(found) for found in taken] == [one.id]
        await _end(connection, End.REMOVE, *taken)
        assert list(await connection.queue.send([one])) == [None], "its own row is no obstacle"


class QueueSuite(_Sending, _Holding, _Looking, _Peeking, _Reading, _Fusing):
    """Everything about the queue of a driver; cases about what it does not have are skipped."""


def traits(connection: Connection) -> QueueTraits:
    """Return what a queue says of itself."""
    return getattr(connection.queue, "traits", QueueTraits())


async def _fused(context: CaseContext) -> tuple[Connection, Table]:
    connection = await context.connect()
    _need(context, traits(connection).fuses, "fuses")
    assert connection.table is not None, "the queue writes rows with its endings, and there is no table"
    return connection, connection.table


async def _told(context: CaseContext, heard: asyncio.Event, what: str) -> None:
    try:
        async with asyncio.timeout(context.patience):
            await heard.wait()
    except TimeoutError:
        raise AssertionError(f"nobody was told of {what} within {context.patience} s") from None


def _need(context: CaseContext, there: object, trait: str) -> None:
    if not there:
        context.skip(f"the queue does not have the trait {trait}")


def _slots(queue: str = "q") -> list[Slot]:
    return [(queue, Priority.NORMAL)]


def _answers(found: Sequence[Answer] | Exception) -> Sequence[Answer]:
    return [found] * 3 if isinstance(found, TranshipError) else [] if isinstance(found, Exception) else found


def _is_definite(answers: Sequence[Answer] | Exception) -> bool:
    """Whether a batch was answered, be it that nothing of it was sent."""
    return not isinstance(answers, Exception) or isinstance(answers, TranshipError)


def _messages(context: CaseContext, count: int, *, body: bytes | None = None, **envelope: Any) -> list[Outgoing]:
    made = [Outgoing.of(context.message(**envelope)) for _ in range(count)]
    for one in made:
        one.message.body = one.message.body if body is None else body
    return made


async def _sent(connection: Connection, messages: list[Outgoing]) -> list[Outgoing]:
    answers = await connection.queue.send(messages)
    assert list(answers) == [None] * len(messages), answers
    return messages


async def _take(
    connection: Connection, limit: int, queue: str = "q", *, slots: Sequence[Slot] | None = None
) -> Sequence[Taken]:
    return (await connection.queue.take(slots or _slots(queue), limit, 0.0)).items


async def _end(connection: Connection, end: End, *taken: Taken) -> None:
    answers = await connection.queue.end([Ending(one.token, end) for one in taken])
    assert [answer in _DONE for answer in answers] == [True] * len(taken), answers


def _id(taken: Taken) -> str:
    return taken.opened()[0].id
