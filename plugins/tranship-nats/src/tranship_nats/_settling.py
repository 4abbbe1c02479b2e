"""Ending deliveries: what takes a message's place is stored first, then the message goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tranship.errors import TranshipError
from tranship.ports import Settled, Settlement, Verdict
from tranship.protocol import Message
from tranship_nats._asks import Answer, Ask
from tranship_nats._context import Context
from tranship_nats._errors import again, api_error, error_in, gone, no_responders
from tranship_nats._held import ACK, NAK, Held, stored_at
from tranship_nats._message import DUE, block_of, copied, id_in, said
from tranship_nats._tidy import tidy

__all__ = ["Settling", "disown", "stored"]

Said = Settled | TranshipError


class Settling:
    """Carries out verdicts."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def settle(self, settlements: Sequence[Settlement]) -> list[Said]:
        """End deliveries, and say of each what became of it."""
        await disown(self._ctx, [one.delivery.token for one in settlements])
        now = asyncio.get_running_loop().time()
        answers: dict[Settlement, Said] = {}
        for one in settlements:
            if one.delivery.token.done or one.delivery.token.until <= now:
                answers[one] = Settled.LOST
            elif one.problem is not None:
                answers[one] = one.problem
        answers |= await self._store([one for one in settlements if one not in answers and _leaves_something(one)])
        answers |= await self._end_all([one for one in settlements if one not in answers])
        return [answers[one] for one in settlements]

    async def _end_all(self, settlements: Sequence[Settlement]) -> dict[Settlement, Said]:
        nacked = [one.delivery.token.ack for one in settlements if one.verdict is Verdict.NACK]
        await tidy(self._ctx.link, self._ctx.names.api, [ack for ack in nacked if ack])
        found = await self._ctx.link.ask_all([self._end(one) for one in settlements])
        return {one: self._noted(one, answer) for one, answer in zip(settlements, found, strict=True)}

    def _end(self, settlement: Settlement) -> Ask:
        held: Held = settlement.delivery.token
        if held.early:
            return self._ctx.api.deleting(self._ctx.names.delay, held.seq)
        return held.ack, b"", NAK if settlement.verdict is Verdict.NACK else ACK

    def _noted(self, settlement: Settlement, answer: Answer) -> Said:
        held: Held = settlement.delivery.token
        if isinstance(answer, TranshipError):
            return again(answer)
        held.done = True
        if no_responders(answer[0]) or error_in(answer[1]) is not None:
            # The consumer, or its stream, was deleted with everything it knew; or it has left the schedule.
            return Settled.LOST
        if settlement.verdict is not Verdict.NACK and not held.early:
            self._ctx.recent.add(held.mark)
        return Settled.CONFIRMED

    async def _store(self, settlements: Sequence[Settlement]) -> dict[Settlement, Said]:
        """Store what takes their place; return those of which it is not known that it is stored."""
        if not settlements:
            return {}
        asks = [await self._copy(settlement) for settlement in settlements]
        failed: dict[Settlement, Said] = {}
        found = await self._ctx.link.ask_all([ask for _, ask in asks])
        for one, (kind, _), answer in zip(settlements, asks, found, strict=True):
            try:
                stored(self._ctx, kind, answer)
            except TranshipError as error:
                failed[one] = error
        return failed

    async def _copy(self, settlement: Settlement) -> tuple[str, Ask]:
        if settlement.verdict is Verdict.REJECT:
            await self._ctx.streams.need("dead")
            return "dead", self._letter(settlement)
        if settlement.replacement is not None:
            return await self._replacement(settlement.delivery.token, settlement.replacement)
        held: Held = settlement.delivery.token
        subject = self._ctx.names.task(settlement.delivery.queue, settlement.delivery.priority)
        return "work", (subject.encode(), copied(held.block, msg_id=b"%b%d" % (DUE, held.seq)), held.data)

    async def _replacement(self, held: Held, message: Message) -> tuple[str, Ask]:
        names, envelope = self._ctx.names, message.envelope
        msg_id = b"%%:%b:%d:%d" % (b"later" if held.early else b"next", held.seq, envelope.attempt)
        due = envelope.not_before
        if due is None or due <= self._ctx.clock.now():
            subject = names.task(envelope.queue, envelope.priority)
            return "work", (subject.encode(), *block_of(message, msg_id))
        await self._ctx.streams.need("delay")
        subject = names.delayed(envelope.queue, envelope.priority, envelope.id, due)
        return "delay", (subject.encode(), *block_of(message, msg_id, not_before=due))

    def _letter(self, settlement: Settlement) -> Ask:
        delivery = settlement.delivery
        held: Held = delivery.token
        message = delivery.message
        subject = self._ctx.names.buried(delivery.queue, delivery.priority, id_in(message.headers))
        more = said(settlement.reason, settlement.detail, delivery.delivery_count)
        headers = copied(
            held.block, msg_id=b"%%:%b:%d" % (b"dead-early" if held.early else b"dead", held.seq), more=more
        )
        return subject.encode(), headers, held.data


async def disown(ctx: Context, held: Sequence[Held]) -> None:
    """Give up what came from a stream that was deleted and made again: its end would be another message's."""
    born = await ctx.streams.born("work")
    for one in held:
        if not one.done and not one.early and stored_at(one.mark) < born:
            one.done = True


def stored(ctx: Context, kind: str, answer: Answer) -> None:
    """Insist that a message was stored.

    Raises:
        BrokerUnreachable, BrokerRefused, StorageFull.
    """
    if isinstance(answer, TranshipError):
        raise again(answer)
    name, place = ctx.streams.name(kind), ctx.link.place
    if no_responders(answer[0]):
        ctx.streams.doubt(kind)
        raise gone(place, name)
    if (error := error_in(answer[1])) is not None:
        raise api_error(error, f"{place}: publishing to {name}")


def _leaves_something(settlement: Settlement) -> bool:
    early: bool = settlement.delivery.token.early
    return settlement.verdict in (Verdict.REJECT, Verdict.REPLACE) or (early and settlement.verdict is Verdict.NACK)
