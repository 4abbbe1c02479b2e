"""What waits in the queues: counted, looked at, and taken one by one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tranship.driver import Stored, Taken, facts_read
from tranship.envelope import Priority
from tranship.ports import QueueInfo
from tranship.protocol import number_of, whole_of
from tranship_redis._broker import Broker
from tranship_redis._channel import Channel
from tranship_redis._claims import Held, microseconds
from tranship_redis._element import lacking, read, read_quarantined
from tranship_redis._keys import SEPARATOR
from tranship_redis._levels import STEPS, Place
from tranship_redis._pack import Part
from tranship_redis._scripts import Script

__all__ = ["Browsing"]

LOOK: Final = 50
"""Elements that are read at once: they come with their messages, whatever their size."""
SEARCH: Final = 200
PICK: Final = 100
"""Messages per script; the server does nothing else meanwhile."""
_INSPECT: Final = Script("inspect")
_PICK: Final = Script("pick")
_NOTHING: Final[Sequence[Any]] = (0, 0, 0, 0, 0, b"", b"", b"", b"")
"""What a queue nobody has used since has."""


class Seen(NamedTuple):
    """A message in a list or a schedule."""

    place: Place
    element: bytes
    delayed: bytes
    """The id in the schedule; empty: it is in its list."""

    @property
    def task_id(self) -> str | None:
        """The task's id, where the server knows it; None: only the message does."""
        return self.delayed.decode(errors="replace") or None


class Browsing:
    """The verbs of a queue that look without taking, and take what was seen.

    Seen are the queues that tranship has used. What a Celery worker holds is not counted as in flight: nothing on
    the server says which queue it is from without being read whole.

    Args:
        broker: what is known beyond the connection.
        channel: what it goes over.
    """

    def __init__(self, broker: Broker, channel: Channel) -> None:
        self._broker, self._channel = broker, channel
        self._keys, self._levels = broker.keys, broker.levels

    # Counting.

    async def queues(self) -> list[QueueInfo]:
        """Count what is where."""
        keys = self._keys
        now, leases, *rows = await self._channel.run(_INSPECT, [keys.queues, keys.leases], [keys.prefix])
        held = self._held(leases)
        found = {row[0].decode(errors="replace"): row for row in rows}
        infos = [self._info(name, found.get(name), float(now), held[name]) for name in {*found, *held}]
        return [info for info in infos if any(info.ready.values()) or info.delayed or info.in_flight]

    def _held(self, leases: Sequence[Any]) -> Counter[str]:
        held: Counter[str] = Counter()
        for key, count in zip(leases[::2], leases[1::2], strict=True):
            name = key[len(self._keys.prefix) :].partition(SEPARATOR)[0]
            held[name.decode(errors="replace")] += count
        return held

    def _info(self, name: str, row: Sequence[Any] | None, now: float, held: int) -> QueueInfo:
        counts = _NOTHING if row is None else row[1:]
        ready = dict.fromkeys(Priority, 0)
        for step, count in zip(STEPS, counts[:4], strict=True):
            ready[self._levels.priority(step)] += count
        delayed, *stamps = counts[4:]
        return QueueInfo(name=name, ready=ready, delayed=delayed, in_flight=held, oldest_age=_age(now, stamps))

    # Looking.

    async def find(self, ids: Sequence[str], cancel_keys: Sequence[str]) -> list[Stored]:
        """Return delayed messages by id; the server has no index of anything else."""
        del cancel_keys
        found: list[Stored] = []
        names = [one.encode(errors="surrogatepass") for one in ids]
        for start in range(0, len(names), SEARCH):
            part = names[start : start + SEARCH]
            queues = await self._channel.call(b"HMGET", self._keys.delayed_queues, *part)
            of = list(zip(part, queues, strict=True))
            for queue in dict.fromkeys(queue for queue in queues if queue is not None):
                wanted = [one for one, where in of if where == queue]
                found += await self._delayed(queue.decode(errors="surrogatepass"), wanted)
        return found

    async def scan(self, queue: str, state: str, limit: int) -> list[Stored]:
        """Return what would be taken next, or is due next."""
        if state == "delayed":
            return await self._delayed(
                queue, await self._channel.call(b"ZRANGE", self._keys.delayed(queue), 0, limit - 1)
            )
        found: list[Stored] = []
        for place in self._levels.places([queue]) if state == "ready" else ():
            at = 0
            while (wanted := min(LOOK, limit - len(found))) > 0:
                elements = await self._channel.call(b"LRANGE", place.key, -at - wanted, -at - 1)
                found += [_stored(Seen(place, one, b"")) for one in reversed(elements)]
                at += wanted
                if len(elements) < wanted:
                    break
        return found

    async def search(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Look through the lists, the newest first: what comes meanwhile moves others on, so that none is missed."""
        wanted, found = set(ids), list[Stored]()
        for place in self._levels.places([queue]):
            at = 0
            while elements := await self._channel.call(b"LRANGE", place.key, at, at + SEARCH - 1):
                seen = [_stored(Seen(place, one, b"")) for one in elements]
                found += [one for one in seen if one.facts.id in wanted]
                at += SEARCH
        names = [one.encode(errors="surrogatepass") for one in ids]
        scores = await self._channel.call(b"ZMSCORE", self._keys.delayed(queue), *names) if names else ()
        there = [name for name, score in zip(names, scores, strict=True) if score is not None]
        return found + await self._delayed(queue, there)

    async def _delayed(self, queue: str, names: Sequence[bytes]) -> list[Stored]:
        """Return delayed messages of a queue by their names in the schedule."""
        if not names:
            return []
        messages = await self._channel.call(b"HMGET", self._keys.delayed_messages(queue), *names)
        places = {place.step: place for place in self._levels.places([queue])}
        found = []
        for name, message in zip(names, messages, strict=True):
            # It begins with the digit of its step; a name without a message can be removed, too.
            place = places.get(whole_of((message or b"")[:1]) or 0, places[0])
            found.append(_stored(Seen(place, (message or b"")[1:], name)))
        return found

    # Taking what was seen.

    async def pick(self, refs: Sequence[Seen]) -> list[Taken]:
        """Hold these, wherever they stand."""
        keys, taken = self._keys, list[Taken]()
        names = [
            *(keys.unacked, keys.unacked_index, keys.leases, keys.letters, keys.letter_names, keys.delayed_queues),
        ]
        for start in range(0, len(refs), PICK):
            part = refs[start : start + PICK]
            suffix = self._broker.claims.suffix()
            arguments: list[Part] = [microseconds(self._broker.options.lease)]
            tags = []
            for number, one in enumerate(part):
                tag, value = _held_value(one.element)
                tags.append(tag)
                arguments += (b"%b\0%b%b" % (one.place.key, tag or b"%d" % number, suffix), tag, value)
                arguments += self._where(one)
            held = await self._channel.run(_PICK, names, arguments)
            taken += [self._taken(one, tag, token) for one, tag, token in zip(part, tags, held, strict=True) if token]
        return taken

    def _where(self, seen: Seen) -> tuple[Part, ...]:
        """Return what the script is told of where a message is, and of the message."""
        keys, place = self._keys, seen.place
        key, messages = place.key, b""
        if seen.delayed:
            key, messages = keys.delayed(place.queue), keys.delayed_messages(place.queue)
        return key, seen.delayed, messages, seen.element, place.queue, place.step

    def _taken(self, seen: Seen, tag: bytes, token: bytes) -> Taken:
        place, number = seen.place, self._broker.claims.number()
        held = Held(token, tag, place, number, letter=not tag)
        message = read(seen.element) if tag else read_quarantined(seen.element)
        return Taken(held, place.queue, place.priority, message, task_id=seen.task_id)


def _stored(seen: Seen) -> Stored:
    facts = facts_read(read(seen.element), seen.place.queue, seen.place.priority)
    if seen.task_id is not None:
        facts = facts._replace(id=seen.task_id)
    return Stored(seen, facts, "delayed" if seen.delayed else "ready")


def _held_value(element: bytes) -> tuple[bytes, bytes]:
    """Return the delivery tag of an element, and what is written to Celery's unacked; empty: it cannot be there."""
    if lacking(element) is not None or b"\0" in element:
        return b"", b""
    properties = read(element).properties
    info = properties["delivery_info"]
    rest = f", {json.dumps(info['exchange'])}, {json.dumps(info['routing_key'])}]"
    return str(properties["delivery_tag"]).encode(errors="surrogatepass"), b"[" + element + rest.encode()


def _age(now: float, stamps: Sequence[bytes]) -> float | None:
    """Return the age of the oldest; None: what is ready was sent by somebody who does not say when."""
    heads = [stamp for stamp in stamps if stamp]
    known = [number for stamp in heads if (number := number_of(stamp)) is not None]
    if not heads:
        return 0.0
    return max(0.0, now - min(known)) if known else None
