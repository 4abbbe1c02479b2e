"""What a move needs beyond the usual: everything can be taken out, and dead letters be taken in."""

from __future__ import annotations

import time

from tranship.envelope import DeadLetter, Priority
from tranship.errors import UnsupportedError
from tranship.ports import Backend, Capability, DeadLetterTaker, EarlyConsumer, Settlement, Verdict
from tranship.protocol import decode
from tranship.testing.case import case
from tranship.testing.context import CaseContext, ids_of

__all__ = ["BacklogCases"]


class BacklogCases:
    """Part of the inspector's suite; both protocols are optional."""

    @case(
        "early_is_taken",
        level="capability",
        needs={Capability.DELAY},
        rationale="a backlog that cannot leave before it is due keeps a broker alive for a month",
    )
    async def test_early_is_taken(self, context: CaseContext) -> None:
        """Delayed messages are handed out before their time, as they are, once, and only to who asks for it."""
        backend = await context.open()
        consumer = backend.consumer(["q"])
        if not isinstance(consumer, EarlyConsumer):
            context.skip("the consumer is no EarlyConsumer")
        level = Priority.LOW if await context.has(Capability.PRIORITY) else Priority.NORMAL
        late = float(int(time.time()) + 3600)
        sent = [context.message(not_before=late + number, priority=level, cancel_key="k") for number in range(3)]
        ids = await context.submit(backend, *sent)
        await context.quiet(consumer, 0.2)
        try:
            first = list((await consumer.receive_early(2)).deliveries)
        except UnsupportedError:
            context.skip("what is not due is in somebody's hands: the broker has no schedule")
        assert ids_of(first) == ids[:2], "the earliest first, no more than asked for"
        found = [decode(one.message, queue=one.queue, priority=one.priority) for one in first]
        assert [one.not_before for one in found] == [late, late + 1]
        assert {(one.queue, one.priority, one.cancel_key) for one in found} == {("q", level, "k")}
        back = [Settlement(first[0], Verdict.REPLACE, replacement=sent[0]), Settlement(first[1], Verdict.ACK)]
        await consumer.settle(back)
        await context.quiet(consumer, 0.2)
        rest = list((await consumer.receive_early(10)).deliveries)
        assert ids_of(rest) == [ids[0], ids[2]], "what was given back is on the schedule, what was taken is not"
        await context.settle(consumer, Verdict.ACK, *rest)
        assert not (await consumer.receive_early(10)).deliveries

    @case(
        "dead_add_keeps_everything",
        level="capability",
        needs={Capability.DEAD_LETTERS},
        rationale="a dead letter that loses its reason on the way is a riddle at the new place",
    )
    async def test_dead_add_keeps_everything(self, context: CaseContext) -> None:
        """Letters of another broker are listed as they were there, in their order, and can be replayed."""
        backend = await context.open()
        inspector = backend.inspector()
        if not isinstance(inspector, DeadLetterTaker):
            context.skip("the inspector is no DeadLetterTaker")
        messages = [context.message(args=(number,), priority=Priority.HIGH, cancel_key="k") for number in range(3)]
        letters = [_letter(message.envelope.id, message.body, number) for number, message in enumerate(messages)]
        await inspector.dead_add(letters[:2], messages[:2])
        await inspector.dead_add(letters[2:], messages[2:])
        found = list(await inspector.dead("q"))
        assert [_about(one) for one in found] == [_about(one) for one in letters]
        assert list(await inspector.dead(limit=10, after=found[0].id)) == found[1:]
        assert [one.task_id for one in await inspector.dead_get([letters[1].task_id or ""])] == [letters[1].task_id]
        await _replays(context, backend, [one.task_id or "" for one in letters])


async def _replays(context: CaseContext, backend: Backend, ids: list[str]) -> None:
    assert list(await backend.inspector().dead_replay(ids)) == ids
    deliveries = await context.receive(backend.consumer(["q"]), 3)
    found = [decode(one.message, queue=one.queue, priority=one.priority) for one in deliveries]
    assert [(one.id, list(one.args), one.priority, one.cancel_key) for one in found] == [
        (task_id, [number], Priority.HIGH, "k") for number, task_id in enumerate(ids)
    ]
    assert not list(await backend.inspector().dead())


def _letter(task_id: str, body: bytes, number: int) -> DeadLetter:
    return DeadLetter(
        id=f"elsewhere-{number}",
        task_id=task_id,
        task="conformance.echo",
        queue="q",
        priority=Priority.HIGH,
        reason="tired",
        detail=f"the {number}th, with an ü",
        deliveries=3 + number,
        died_at=1_700_000_000.25 + number,
        headers={},
        body=body,
        content_type="application/json",
    )


def _about(letter: DeadLetter) -> tuple[object, ...]:
    place = (letter.task_id, letter.task, letter.queue, letter.priority)
    return (*place, letter.reason, letter.detail, letter.deliveries, round(letter.died_at, 3), letter.body)
