"""What was never handed out: the messages of a queue that operators look at, and take away.

JetStream says of a consumer how far it has handed out its messages; whatever is behind that in the stream is nobody's.
It cannot reserve a single one of them: what is picked stays where it is until it is deleted, and a worker may be
faster. What a worker has given back counts as handed out, and is not seen here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from tranship.driver import End, Slot, Stored, Taken
from tranship.envelope import Priority
from tranship.errors import TranshipError
from tranship.ports import Settled
from tranship_nats._broker import Broker
from tranship_nats._delivery import Token, Told, seen_as
from tranship_nats._errors import CONSUMER_MISSING, MESSAGE_MISSING, SEQUENCE_MISSING, STREAM_MISSING
from tranship_nats._jetstream import JetStream, Seen, checked

__all__ = ["Backlog"]

_MISSING: Final = (SEQUENCE_MISSING, MESSAGE_MISSING)


class Backlog:
    """Of all queues, over one connection.

    Args:
        broker: what is known beyond the connection.
        js: over the connection.
    """

    def __init__(self, broker: Broker, js: JetStream) -> None:
        self._names, self._js = broker.names, js

    async def scan(self, queue: str, limit: int) -> list[Stored]:
        """Return the first messages of a queue that were never handed out, as they would be."""
        found: list[Stored] = []
        async for one in self._waiting(queue):
            if len(found) >= limit:
                break
            found.append(one)
        return found

    async def search(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of a queue that have one of the ids, after a look at all of them."""
        wanted = set(ids)
        return [one async for one in self._waiting(queue) if one.facts.id in wanted]

    async def pick(self, refs: Sequence[Seen]) -> list[Taken]:
        """Take what is there still, and was not handed out meanwhile. A worker may get it until it is ended."""
        there = await self._js.get_all([(self._names.work, {"seq": one.seq}) for one in refs])
        tokens = [_token(one, self._names.place_of(one.subject)) for one in there if one is not None]
        handed_out = await self._handed_out([one.slot for one in tokens])
        return [one.taken() for one in tokens if one.told.seq > handed_out[one.slot]]

    async def end(self, endings: Mapping[Token, End]) -> dict[Token, Settled | TranshipError]:
        """Delete what is to be removed, and leave the rest where it is; LOST: a worker has it, or had it."""
        handed_out = await self._handed_out([one.slot for one in endings])
        told: dict[Token, Settled | TranshipError] = {
            token: Settled.LOST if token.told.seq <= handed_out[token.slot] else Settled.CONFIRMED for token in endings
        }
        gone = [token for token, end in endings.items() if end is End.REMOVE and told[token] is Settled.CONFIRMED]
        asks = [self._js.deleting(self._names.work, token.told.seq) for token in gone]
        for token, answer in zip(gone, await self._js.make_all(asks), strict=True):
            try:
                is_deleted = checked(answer, f"{self._js.connection.place}: deleting from {self._names.work}", _MISSING)
            except TranshipError as error:
                told[token] = error
            else:
                told[token] = Settled.CONFIRMED if is_deleted else Settled.LOST
        for token, settled in told.items():
            token.done = not isinstance(settled, TranshipError)
        return told

    async def _waiting(self, queue: str) -> AsyncIterator[Stored]:
        """Yield what was never handed out, the most urgent level first."""
        for level in Priority:
            slot = queue, level
            after = (await self._handed_out([slot]))[slot]
            async for seen in self._js.walk(self._names.work, self._names.task(*slot), after):
                yield seen_as(seen, slot, "ready")

    async def _handed_out(self, slots: Sequence[Slot]) -> dict[Slot, int]:
        """Return up to which sequence each level was handed out; 0: nobody has ever taken from it."""
        found: dict[Slot, int] = {}
        for slot in dict.fromkeys(slots):
            verb = f"CONSUMER.INFO.{self._names.work}.{self._names.consumer(*slot)}"
            info = await self._js.find(verb, CONSUMER_MISSING, STREAM_MISSING)
            found[slot] = 0 if info is None else info["delivered"]["stream_seq"]
        return found


def _token(seen: Seen, slot: Slot) -> Token:
    return Token(slot, Told(1, seen.seq, b""), b"", seen.block, seen.data, float("inf"), "work")
