"""What the queue of a driver promises, below the ports: what is sent is there once, and whose it is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

from tranship.driver import (
    Answer,
    Connection,
    End,
    Ending,
    Interruptible,
    Outgoing,
    Posting,
    Recalling,
    Renewing,
    Taken,
)
from tranship.envelope import Priority
from tranship.errors import SubmitUnknown, TranshipError
from tranship.ports import CountKind, Settled
from tranship.testing.case import case
from tranship.testing.context import CaseContext
from tranship.testing.suites.driver._queue_tools import (
    DONE,
    LEASE,
    end_all,
    id_of,
    need,
    new_messages,
    send_all,
    slots_of,
    take_some,
    traits,
)
from tranship.testing.suites.driver.queue_fusing import FusingCases
from tranship.testing.suites.driver.queue_looking import LookingCases, PeekingCases, ReadingCases

__all__ = ["QueueSuite"]


class _Sending:
    """What is sent, and taken."""

    @case(
        "queue_send_answers_each", level="core", rationale="a message that is not answered for is lost, or sent twice"
    )
    async def test_queue_send_answers_each(self, context: CaseContext) -> None:
        """Each is answered with None, and comes once as it was: bytes or message, queue and level."""
        connection = await context.connect()
        sent = {one.id: one for one in new_messages(context, 5, body=bytes(range(256)))}
        assert list(await connection.queue.send(list(sent.values()))) == [None] * 5
        taken = await take_some(connection, 5)
        assert Counter(map(id_of, taken)) == Counter(list(sent))
        for one in taken:
            assert (one.queue, one.priority) == ("q", Priority.NORMAL)
            assert bytes(one.opened()[1].body) == bytes(range(256))
        assert not await take_some(connection, 1)

    @case("queue_post_answers_each", level="capability", rationale="an answer that never comes is waited for in vain")
    async def test_queue_post_answers_each(self, context: CaseContext) -> None:
        """``done`` is called once for each batch, with an answer for each, on the loop, and all of it is there."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Posting):
            context.skip("the queue cannot post")
        batches = [new_messages(context, size) for size in (1, 3, 1)]
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
        assert Counter(map(id_of, await take_some(connection, 9))) == Counter(sent)

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
        batches = [new_messages(context, 3) for _ in range(20)]
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
        assert Counter(map(id_of, await take_some(later, 100))) == Counter(stored)
        assert not await take_some(later, 1), "what was not stored came later"

    @case("queue_take_limits", level="core", rationale="who asks for one and gets ten holds nine back from others")
    async def test_queue_take_limits(self, context: CaseContext) -> None:
        """No more than asked for, nothing from slots that were not asked for, nothing while there is nothing."""
        connection = await context.connect()
        empty = await connection.queue.take(slots_of(), 5, 0.0)
        assert not empty.items
        assert empty.confirmed, "empty as the broker said, and not told so"
        await connection.queue.send([*new_messages(context, 4), *new_messages(context, 1, queue="other")])
        assert len(await take_some(connection, 3)) == 3
        assert len(await take_some(connection, 3)) == 1
        assert [one.queue for one in await take_some(connection, 3, "other")] == ["other"]

    @case("queue_take_levels_in_order", level="capability", rationale="urgent is urgent only if it overtakes the rest")
    async def test_queue_take_levels_in_order(self, context: CaseContext) -> None:
        """The most urgent slot first, whatever was sent first."""
        connection = await context.connect()
        need(context, traits(connection).levels, "levels")
        for level in reversed(Priority):
            await connection.queue.send(new_messages(context, 2, priority=level))
        slots = [("q", level) for level in Priority]
        taken = [one for _ in range(4) for one in await take_some(connection, 2, slots=slots)]
        assert [one.priority for one in taken] == sorted([*Priority, *Priority])

    @case("queue_keeps_order", level="capability", rationale="first come, first served; what comes back has its place")
    async def test_queue_keeps_order(self, context: CaseContext) -> None:
        """First in, first out over several sends; what is requeued is first, or last, as the trait says."""
        connection = await context.connect()
        order = traits(connection).order
        need(context, order, "order")
        sent = [one.id for _ in range(4) for one in await send_all(connection, new_messages(context, 3))]
        first, *rest = await take_some(connection, 4)
        await end_all(connection, End.REQUEUE, first)
        await end_all(connection, End.REMOVE, *rest)
        left = [sent[0], *sent[4:]] if order == "keeps-place" else [*sent[4:], sent[0]]
        assert list(map(id_of, await take_some(connection, 12))) == left

    @case(
        "queue_take_waits", level="capability", rationale="a take that returns at once, again and again, is a busy loop"
    )
    async def test_queue_take_waits(self, context: CaseContext) -> None:
        """With the trait: about as long as it was told, and not longer than until something is there, be it sent
        elsewhere or given back here.
        """
        connection, other = await context.connect(), await context.connect()
        need(context, traits(connection).waits, "waits")
        taking = context.start(connection.queue.take(slots_of(), 1, context.patience))
        await context.wait_for(taking, 0.2)
        assert not taking.done(), "it did not wait"
        await other.queue.send(new_messages(context, 1))
        await context.wait_for(taking, context.patience / 2)
        assert taking.done(), "it slept through what was sent"
        (held,) = taking.result().items
        again = context.start(connection.queue.take(slots_of(), 1, context.patience))
        await context.wait_for(again, 0.2)
        await end_all(connection, End.REQUEUE, held)
        await context.wait_for(again, context.patience / 2)
        assert again.done(), "it slept through what was given back on its own connection"
        assert [id_of(one) for one in again.result().items] == [id_of(held)]

    @case(
        "queue_take_interrupted",
        level="capability",
        rationale="a worker whose type of task has room again must not wait for another queue first",
    )
    async def test_queue_take_interrupted(self, context: CaseContext) -> None:
        """Of two that wait the one whose slots are named returns; nothing that comes later is lost with it."""
        connection = await context.connect()
        queue = connection.queue
        if not isinstance(queue, Interruptible):
            context.skip("its takes cannot be interrupted")
        wanted, others = slots_of(), slots_of()
        taking, other = (context.start(queue.take(one, 1, context.patience)) for one in (wanted, others))
        await context.wait_for(taking, 0.2)
        queue.interrupt(wanted)
        await context.wait_for(taking, context.patience / 4)
        assert taking.done(), "it goes on waiting"
        assert not taking.result().items
        assert not other.done(), "it was not asked to stop"
        sent = await send_all(connection, new_messages(context, 2))
        await context.wait_for(other, context.patience / 2)
        found = [*other.result().items, *await take_some(connection, 1)]
        assert sorted(map(id_of, found)) == sorted(one.id for one in sent)

    @case("queue_unique", level="capability", rationale="a submit that is repeated after a lost answer runs twice")
    async def test_queue_unique(self, context: CaseContext) -> None:
        """With the trait: an id that is queued or held is answered with itself, and is there once; a retry of it, and
        what is replayed, has a mark and is another message.
        """
        connection = await context.connect()
        need(context, traits(connection).unique, "unique")
        (one,) = await send_all(connection, new_messages(context, 1))
        one.unless = "xx/none" if traits(connection).fuses else None
        assert list(await connection.queue.send([one])) == [one.id]
        (held,) = await take_some(connection, 5)
        assert list(await connection.queue.send([one])) == [one.id]
        await end_all(connection, End.REMOVE, held)
        assert not await take_some(connection, 5)
        retry = Outgoing(one.facts, one.message, mark="retry-1")
        assert list(await connection.queue.send([retry])) == [None], "a retry was taken for the task before it"
        (held,) = await take_some(connection, 5)
        await end_all(connection, End.REMOVE, held)


class _Holding:
    """Whose message it is."""

    @case("queue_held_is_not_taken", level="core", rationale="one message in two hands is a task that runs twice")
    async def test_queue_held_is_not_taken(self, context: CaseContext) -> None:
        """Of 100 messages and five takers at once, over two connections, each is taken by one."""
        connections = [await context.connect(), await context.connect()]
        sent = await send_all(connections[0], new_messages(context, 100))
        got: list[str] = []

        async def taker(connection: Connection) -> None:
            while taken := await take_some(connection, 7):
                got.extend(map(id_of, taken))

        await asyncio.gather(*(taker(connections[number % 2]) for number in range(5)))
        assert Counter(got) == Counter(one.id for one in sent)

    @case("queue_end_answers_each", level="core", rationale="a lost message that is told as done is never done")
    async def test_queue_end_answers_each(self, context: CaseContext) -> None:
        """Removed, requeued and released in one call, each with its answer; what was removed is gone."""
        connection = await context.connect()
        await connection.queue.send(new_messages(context, 3))
        removed, requeued, released = await take_some(connection, 3)
        answers = await connection.queue.end(
            [
                Ending(removed.token, End.REMOVE),
                Ending(requeued.token, End.REQUEUE),
                Ending(released.token, End.RELEASE),
            ]
        )
        assert [answer in DONE for answer in answers] == [True] * 3, answers
        again = {id_of(one): one.delivery_count for one in await take_some(connection, 5)}
        assert set(again) == {id_of(requeued), id_of(released)}
        if traits(connection).counts is CountKind.EXACT:
            assert again == {id_of(requeued): 2, id_of(released): 1}

    @case("queue_end_twice_is_lost", level="core", rationale="a repeated end must not end somebody else's message")
    async def test_queue_end_twice_is_lost(self, context: CaseContext) -> None:
        """LOST the second time, whatever it was, and nothing changes."""
        connection = await context.connect()
        await connection.queue.send(new_messages(context, 2))
        first, second = await take_some(connection, 2)
        await end_all(connection, End.REMOVE, first)
        await end_all(connection, End.REQUEUE, second)
        for end in End:
            for one in (first, second):
                assert list(await connection.queue.end([Ending(one.token, end)])) == [Settled.LOST]
        assert [id_of(one) for one in await take_some(connection, 5)] == [id_of(second)]

    @case("queue_renew_keeps", level="capability", rationale="a long task must not run beside itself")
    async def test_queue_renew_keeps(self, context: CaseContext) -> None:
        """Renewed for three leases it is nobody else's, and can be ended."""
        connection, other = await context.connect(lease=LEASE), await context.connect(lease=LEASE)
        queue = connection.queue
        if not isinstance(queue, Renewing) or traits(connection).lease is None:
            context.skip("the queue has no leases")
        await queue.send(new_messages(context, 1))
        (held,) = await take_some(connection, 1)
        until = time.monotonic() + 3 * LEASE
        while time.monotonic() < until:
            assert list(await queue.renew([held.token])) == [True]
            assert not await take_some(other, 1), "taken from its owner"
            await context.pass_time(LEASE / 4)
        await end_all(connection, End.REMOVE, held)

    @case(
        "queue_renew_tells_lost", level="capability", rationale="who believes that a lost task is his writes its result"
    )
    async def test_queue_renew_tells_lost(self, context: CaseContext) -> None:
        """After its lease somebody else has it: the first can neither renew nor end it, the second can."""
        connection, other = await context.connect(lease=LEASE), await context.connect(lease=60)
        queue, rival = connection.queue, other.queue
        if not isinstance(queue, Renewing) or not isinstance(rival, Renewing) or traits(connection).lease is None:
            context.skip("the queue has no leases")
        await queue.send(new_messages(context, 2))
        late, ended = await take_some(connection, 2)
        await end_all(connection, End.REMOVE, ended)

        async def taken_by_other() -> Sequence[Taken]:
            return await take_some(other, 1)

        (mine,) = await context.eventually(taken_by_other, "a lease that is not renewed is over")
        assert list(await queue.renew([late.token, ended.token])) == [False, False]
        for end in End:
            assert list(await queue.end([Ending(late.token, end)])) == [Settled.LOST]
        assert list(await rival.renew([mine.token])) == [True]
        if traits(connection).counts is CountKind.EXACT:
            assert mine.delivery_count == 2
        await end_all(other, End.REMOVE, mine)


class QueueSuite(_Sending, _Holding, LookingCases, PeekingCases, ReadingCases, FusingCases):
    """Everything about the queue of a driver; cases about what it does not have are skipped."""


def _answers(found: Sequence[Answer] | Exception) -> Sequence[Answer]:
    return [found] * 3 if isinstance(found, TranshipError) else [] if isinstance(found, Exception) else found


def _is_definite(answers: Sequence[Answer] | Exception) -> bool:
    """Whether a batch was answered, be it that nothing of it was sent."""
    return not isinstance(answers, Exception) or isinstance(answers, TranshipError)
