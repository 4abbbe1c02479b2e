"""Ending and renewing deliveries over one connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from redis.exceptions import ResponseError

from tranship import codec
from tranship.driver import End, Ending, Outgoing, Row
from tranship.errors import BrokerUnreachable, TranshipError
from tranship.ports import Settled
from tranship_redis._broker import Broker
from tranship_redis._channel import Channel
from tranship_redis._claims import MOST, Held, microseconds
from tranship_redis._element import Tags
from tranship_redis._errors import Lost, error_of
from tranship_redis._keys import is_result
from tranship_redis._pack import Part, millis
from tranship_redis._scripts import Script
from tranship_redis._settlements import ANSWERS

__all__ = ["Settling"]

Said = Settled | TranshipError

BYTES: Final = 1 << 20
"""A batch is full with so many; the last ending may exceed it."""
TTL: Final = 3600
"""Seconds that the key is kept; much longer than anybody tries to end again."""
_OWN: Final = 200
"""About what an ending weighs without rows and messages, in bytes."""
_SETTLE: Final = Script("settle")
_RELEASE: Final = Script("release")
_EXTEND: Final = Script("extend")


class Settling:
    """Ends and renews, for the queue of one connection.

    Args:
        broker: what is known beyond the connection.
        work: returns the socket for work, or the other one.
        returned: called with the lists that something has been given back to, of which the server does not tell us.
    """

    def __init__(
        self,
        broker: Broker,
        work: Callable[[], Channel],
        returned: Callable[[Collection[bytes]], None],
    ) -> None:
        keys = broker.keys
        self._broker, self._memory, self._work, self._returned = broker, broker.settlements, work, returned
        held = [keys.unacked, keys.unacked_index, keys.leases]
        self._extended = held
        self._released = [*held, keys.letters, keys.letter_names]
        self._ended = [
            *held,
            keys.deliveries,
            keys.letters,
            keys.letter_names,
            keys.delayed_queues,
            self._memory.key(keys.prefix),
        ]
        self._lease = microseconds(broker.options.lease)
        self._arguments = Arguments(broker)

    async def renew(self, tokens: Sequence[Held]) -> list[bool]:
        """Renew leases."""
        channel = self._work()
        leased = [one for one in tokens if not one.letter]
        parts = [leased[start : start + MOST] for start in range(0, len(leased), MOST)]
        renewed = {one for part in await asyncio.gather(*(self._renew(channel, one) for one in parts)) for one in part}
        return [one.letter or one.token in renewed for one in tokens]

    async def _renew(self, channel: Channel, held: Sequence[Held]) -> list[bytes]:
        tokens, tags = [one.token for one in held], [one.tag for one in held]
        said = await channel.run(_EXTEND, self._extended, [self._lease, len(held), *tokens, *tags])
        return [one for one, answer in zip(tokens, said, strict=True) if answer == ord("1")]

    async def end(self, endings: Sequence[Ending]) -> Sequence[Said]:
        """Store what belongs to the ends of deliveries and end them, each in one step."""
        released = [one.token for one in endings if one.end is End.RELEASE]
        if not released:
            return await self._settle(self._work(), endings)
        try:
            answers = await self._release(self._work(), released)
        except (TranshipError, Lost):
            # Over the next connection, instead of after their leases.
            self._broker.unreturned.update(one.token for one in released if not one.letter)
            raise
        others = [one for one in endings if one.end is not End.RELEASE]
        settled = iter(await self._settle(self._work(), others) if others else ())
        return [answers[one.token] if one.end is End.RELEASE else next(settled) for one in endings]

    # Giving back.

    async def _release(self, channel: Channel, held: Sequence[Held]) -> dict[Held, Said]:
        """Give back to the front of lists, so that what was taken last goes first."""
        ordered, answers = sorted(held, key=attrgetter("number")), dict[Held, Said]()
        for start in reversed(range(0, len(ordered), MOST)):
            part = ordered[start : start + MOST]
            tokens = [one for one in part if not one.letter]
            letters = [one for one in part if one.letter]
            arguments: list[Part] = [len(tokens), *(one.token for one in tokens)]
            for one in letters:
                arguments += (one.place.key, one.token)
            said, refusal = await channel.run(_RELEASE, self._released, arguments)
            refused = error_of(_reply(refusal), doing=f"{channel.place}: giving deliveries back") if refusal else None
            for one, answer in zip((*tokens, *letters), said, strict=True):
                answers[one] = ANSWERS.get(answer) or _sure(refused)
            self._returned({one.place.key for one in part})
        return answers

    # Ending.

    async def _settle(self, channel: Channel, endings: Sequence[Ending]) -> list[Said]:
        """Carry out endings, one batch after the other, and say of each what became of it."""
        answers: list[Said] = []
        async with self._memory.turn:
            for part in _parts(endings):
                try:
                    answers += await self._part(channel, part)
                except (TranshipError, Lost) as error:
                    if not answers:
                        raise
                    failed = error if isinstance(error, TranshipError) else _unreachable(error)
                    answers += [failed] * (len(endings) - len(answers))
                    break
        if back := [one for one in endings if one.then or one.end is End.REQUEUE]:
            self._returned({key for one in back for key in self._pushed_to(one)})
        return answers

    async def _part(self, channel: Channel, endings: Sequence[Ending]) -> list[Said]:
        told = self._memory.told
        if not told:
            return await self._batch(channel, endings)
        answers: dict[Ending, Said] = {one: told.pop(one.token.token) for one in endings if one.token.token in told}
        open_ = [one for one in endings if one not in answers]
        if open_:
            answers.update(zip(open_, await self._batch(channel, open_), strict=True))
        return [answers[one] for one in endings]

    async def _batch(self, channel: Channel, endings: Sequence[Ending]) -> list[Said]:
        memory = self._memory
        number, tokens = next(memory.numbers), [one.token.token for one in endings]
        asked, parts = memory.asked(tokens), self._arguments.of(endings, memory.others(tokens))
        try:
            text, refusal = await channel.run(_SETTLE, self._ended, [number, self._lease, TTL, *parts, *asked])
        except (Lost, asyncio.CancelledError):
            memory.lost(tokens, number)
            raise
        memory.heard(tokens, text)
        refused = error_of(_reply(refusal), doing=f"{channel.place}: settling") if refusal else None
        return [ANSWERS.get(said) or _sure(refused) for said in text[: len(endings)]]

    def _pushed_to(self, ending: Ending) -> Iterator[bytes]:
        """Return the lists and schedules that an ending gives something to."""
        if ending.end is End.REQUEUE:
            yield ending.token.place.key
        for message in ending.then:
            yield self._broker.levels.key(message.queue, message.level)
            yield self._broker.keys.delayed(message.queue)


class Arguments:
    """Endings as the script takes them: five arguments for each, and what makes one more than a removal.

    Args:
        broker: what is known beyond the connection.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._tags = Tags()

    def of(self, endings: Sequence[Ending], others: Sequence[bytes]) -> list[Part]:
        """Return what the script is told of ``endings``, and of other tokens, which it looks up only."""
        parts: list[Part] = []
        more: list[Part] = []
        for number, ending in enumerate(endings, 1):
            held: Held = ending.token
            result = _result_of(ending)
            parts += (held.token, held.tag, *self._result(result))
            if held.letter:
                more += ("quarantined", number)
            elif held.is_repeated and ending.end is End.REMOVE:
                more += ("counted", number)
            if ending.end is End.REQUEUE:
                more += ("nack", number)
            if len(ending.rows) > (result is not None) or ending.then:
                more += self._more(number, ending)
        for number, token in enumerate(others, len(endings) + 1):
            parts += (token, b"", b"", b"", b"")
            more += ("only", number)
        return [len(endings) + len(others), *parts, *more]

    def _more(self, number: int, ending: Ending) -> list[Part]:
        """Return what is stored beside a result: a dead letter, or another message."""
        letters = [row for row in ending.rows if not is_result(row.key)]
        parts: list[Part] = []
        for row in letters:
            parts += ("reject", number, row.key.encode(), b"1\n" + row.value)
        for message in ending.then:
            parts += self._message(number, message)
        return parts

    def _result(self, row: Row | None) -> tuple[bytes, bytes, bytes]:
        if row is None:
            return b"", b"", b""
        ttl = self._broker.options.result_ttl if row.ttl is None else row.ttl
        return self._broker.keys.result(row.key[2:]), millis(ttl), row.value.partition(b"\n")[2]

    def _message(self, number: int, message: Outgoing) -> list[Part]:
        broker, now = self._broker, self._broker.clock.now()
        keys, queue = broker.keys, message.queue
        element = broker.elements.build(message, tag=self._tags.next(), timestamp=b"%.3f" % now)
        if message.ready <= now:
            parts: list[Part] = ["replace", number, broker.levels.key(queue, message.level), element]
        else:
            name = message.id.encode(errors="surrogatepass")
            where = (keys.delayed(queue), keys.delayed_messages(queue), name, queue)
            step = b"%d" % broker.levels.step(message.level)
            parts = ["delay", number, *where, repr(float(message.ready)), step + element]
        return parts + self._retrying(number, message)

    def _retrying(self, number: int, message: Outgoing) -> list[Part]:
        """What tells Celery's clients that another attempt follows."""
        broker, facts = self._broker, message.facts
        peers = broker.options.celery_queues.of(facts.queue)
        if peers is False or not facts.store_result or not facts.id:
            return []
        binding = b"" if peers else broker.keys.binding(facts.queue)
        ttl = millis(broker.options.result_ttl if facts.result_ttl is None else facts.result_ttl)
        return ["retrying", number, binding, broker.keys.result(facts.id), ttl, self._retry(facts.id)]

    def _retry(self, task_id: str) -> bytes:
        document: Mapping[str, Any] = {
            "status": "RETRY",
            "result": None,
            "traceback": None,
            "children": [],
            "date_done": None,
            "task_id": task_id,
        }
        if self._broker.options.result_serializer == "msgpack":
            return codec.dumps(document, codec.MSGPACK)
        return json.dumps(document).encode()


def _result_of(ending: Ending) -> Row | None:
    for row in ending.rows:
        if is_result(row.key):
            return row
    return None


def _reply(refusal: bytes) -> ResponseError:
    return ResponseError(refusal.decode(errors="replace"))


def _unreachable(lost: Lost) -> TranshipError:
    error = BrokerUnreachable(str(lost))
    error.__cause__ = lost
    return error


def _sure(refused: TranshipError | None) -> TranshipError:
    assert refused is not None, "the script refused an ending and does not say why"
    return refused


def _parts(endings: Sequence[Ending]) -> Iterator[Sequence[Ending]]:
    """Cut endings into portions that the server carries out at once."""
    start = size = 0
    for number, ending in enumerate(endings):
        if number - start >= MOST or size >= BYTES:
            yield endings[start:number]
            start, size = number, 0
        size += _OWN
        for row in ending.rows:
            size += len(row.value)
        for message in ending.then:
            size += message.size
    yield endings[start:]
