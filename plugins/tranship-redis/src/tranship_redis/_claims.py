"""Claims: what is asked of the server, and deliveries from its answer."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from tranship import codec
from tranship.driver import Taken
from tranship.protocol import RawMessage
from tranship_redis._element import read, read_quarantined
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels, Place
from tranship_redis._options import RedisOptions
from tranship_redis._pack import bulk, millis
from tranship_redis._scripts import Script
from tranship_redis._selection import Pick, Report, peers_of

__all__ = ["CLAIM", "MOST", "Claim", "Claims", "Found", "Held", "microseconds"]

CLAIM: Final = Script("claim")
_ORDERS: Final = 256
"""Remembered orders: each has a few queues, and there are as many as queues, for each set of them that is asked for."""
_FIXED: Final = (
    "unacked",
    "unacked_index",
    "leases",
    "deliveries",
    "letters",
    "letter_names",
    "delayed_queues",
)
"""The keys that every claim has, in this order."""
MOST: Final = 500
"""Deliveries per script call; the server does nothing else meanwhile."""
_LONGEST: Final = 100 * 365 * 86400.0
_PIECE: Final = 50
_PIECE_BYTES: Final = 1 << 20


class Held:
    """The token of a delivery: what is needed to end it."""

    __slots__ = ("is_repeated", "letter", "number", "place", "tag", "token")

    def __init__(
        self, token: bytes, tag: bytes, place: Place, number: int, *, is_repeated: bool = False, letter: bool = False
    ) -> None:
        self.token = token
        """The claim token, ``<list>\\0<tag>\\0<claim id>``; or the name of the dead letter."""
        self.tag = tag
        self.place = place
        self.number = number
        """Grows with every delivery of a backend."""
        self.is_repeated = is_repeated
        """It was delivered before."""
        self.letter = letter
        """It was kept apart among the dead letters, because Celery must not meet it."""

    def as_letter(self, name: bytes) -> Held:
        """Return the token of the dead letter that it has become."""
        return Held(name, b"", self.place, self.number, letter=True)


def microseconds(seconds: float) -> int:
    """Return a lease as the scripts take it."""
    return max(1, round(min(seconds, _LONGEST) * 1_000_000))


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim on its way."""

    data: bytes
    """The command."""
    places: Sequence[Place]
    """The lists by number, from 1."""
    suffix: bytes
    """The end of the claim tokens."""
    queues: frozenset[str] = frozenset()
    """Those of which it looks at everything."""
    pick: Pick | None = None
    """What it looks at, where that is not everything."""


@dataclass(slots=True)
class Found:
    """What a claim brought."""

    taken: list[Taken]
    odd: list[Taken]
    """Those of them that are no JSON after all: Celery must not find them in ``unacked``."""
    promoted: bool
    """Whether delayed messages became due, more than we took perhaps."""
    due: float
    """Seconds until the next delayed message is due."""
    trouble: Sequence[Any]
    """Keys that could not be used, each followed by the error."""
    emptied: bool
    """Nothing is left in the lists, and the server says when that changes, if it does so at all."""
    report: Report | None
    """What is left in which lists, where not all were looked at."""


@dataclass(frozen=True, slots=True)
class _Order:
    """What is constant in the claims for some queues in some order."""

    head: bytes
    tail: bytes
    places: Sequence[Place]
    queues: frozenset[str]


class Claims:
    """Makes the claims of one backend, and what it takes of their answers.

    Args:
        options: of the URL.
        keys: of the namespace.
        levels: of its lists.

    Attributes:
        id: begins the claim ids, so that a backend knows its own.
        node: what Celery's tools call the worker, once it listens.
    """

    def __init__(self, options: RedisOptions, keys: Keys, levels: Levels) -> None:
        self.id, self.node = secrets.token_hex(16), ""
        self._options, self._key_space, self._levels = options, keys, levels
        self._claims = itertools.count(1)
        self._numbers = itertools.count()
        self._piece = 8
        self._lease = bulk(b"%d" % microseconds(options.lease))
        self._orders: dict[tuple[str, ...], _Order] = {}
        self._fixed = b"".join(bulk(getattr(keys, name)) for name in _FIXED)

    def suffix(self) -> bytes:
        """Return the end of the claim tokens of one claim."""
        return b"\0%b-%x" % (self.id.encode(), next(self._claims))

    def number(self) -> int:
        """Return the number of the next delivery."""
        return next(self._numbers)

    def claim(self, queues: tuple[str, ...], limit: int) -> Claim:
        """Return the claim of up to ``limit`` messages from ``queues``, in this order inside each level."""
        order = self._orders.get(queues) or self._remember(queues)
        name = b"%b-%x" % (self.id.encode(), next(self._claims))
        data = b"".join((order.head, *self._asked(limit, name), order.tail))
        return Claim(data, order.places, b"\0" + name, order.queues)

    def select(self, pick: Pick, limit: int) -> Claim:
        """Return the claim of up to ``limit`` messages from what was picked, in its order."""
        queues = {queue: number for number, queue in enumerate(pick.schedules)}
        for spot in pick.spots:
            queues.setdefault(spot.queue, len(queues))
        name = b"%b-%x" % (self.id.encode(), next(self._claims))
        seats = b"".join(queues[spot.queue].to_bytes(2, "big") + b"%d" % spot.place.step for spot in pick.spots)
        keys = len(_FIXED) + 2 * len(pick.schedules) + len(pick.spots)
        parts = [
            b"*%d\r\n" % (3 + keys + 12 + 3 * len(queues)),
            bulk(b"EVALSHA") + bulk(CLAIM.sha) + bulk(b"%d" % keys),
            self._fixed,
            *(queue.schedule for queue in pick.schedules),
            *(spot.part for spot in pick.spots),
            *self._asked(limit, name),
            bulk(b"%d" % len(queues)),
            *map(bulk, self._started()),
            bulk(seats or b"-"),
            bulk(b"%d" % len(pick.schedules)),
            *(queue.arguments for queue in queues),
        ]
        return Claim(b"".join(parts), [spot.place for spot in pick.spots], b"\0" + name, pick=pick)

    def _asked(self, limit: int, name: bytes) -> tuple[bytes, ...]:
        return (bulk(b"%d" % min(limit, MOST)), self._lease, bulk(name), bulk(b"%d" % self._piece))

    def read(self, claim: Claim, reply: Sequence[Any]) -> Found:
        """Return what the script answered."""
        wait, promoted, raws, tags, numbers, counts, quarantined, trouble, rest, *more = reply
        places, suffix, next_number = claim.places, claim.suffix, self._numbers.__next__
        taken, odd = [], []
        for raw, tag, number, count in zip(raws, tags, numbers, counts or itertools.repeat(0), strict=False):
            place, message = places[number - 1], read(raw)
            token = b"%b\0%b%b" % (place.key, tag, suffix)
            held = Held(token, tag, place, next_number(), is_repeated=count > 0)
            one = Taken(held, place.queue, place.priority, message, count + 1)
            taken.append(one)
            if not _is_json(raw, message):
                odd.append(one)
        taken += self._letters(places, quarantined)
        if raws:
            # So that the server does not read many megabytes to give us four.
            self._piece = max(1, min(_PIECE, _PIECE_BYTES * len(raws) // sum(map(len, raws))))
        due = float("inf") if wait < 0 else wait / 1000
        report = None
        if claim.pick is not None:
            report = Report(frozenset(rest), frozenset((*numbers, *quarantined[::3])), *more)
        return Found(taken, odd, bool(promoted), due, trouble, not rest, report)

    def _letters(self, places: Sequence[Place], quarantined: Sequence[Any]) -> list[Taken]:
        found = []
        for number, letter, raw in zip(quarantined[::3], quarantined[1::3], quarantined[2::3], strict=True):
            place = places[number - 1]
            held = Held(letter, b"", place, next(self._numbers), letter=True)
            found.append(Taken(held, place.queue, place.priority, read_quarantined(raw)))
        return found

    def _remember(self, queues: tuple[str, ...]) -> _Order:
        if len(self._orders) >= _ORDERS:
            self._orders.clear()
        keys, levels = self._key_space, self._levels
        places = levels.places(queues)
        names = [getattr(keys, name) for name in _FIXED]
        names += [name for queue in queues for name in (keys.delayed(queue), keys.delayed_messages(queue))]
        names += [place.key for place in places]
        arguments = [b"%d" % len(queues), *self._started(), b"", b"%d" % len(queues)]
        arguments += [
            part
            for queue in queues
            for part in (queue.encode(), keys.list(queue, 0), peers_of(self._options, keys, queue))
        ]
        parts = [b"EVALSHA", CLAIM.sha, b"%d" % len(names), *names]
        head = b"*%d\r\n" % (len(parts) + 4 + len(arguments)) + b"".join(map(bulk, parts))
        order = self._orders[queues] = _Order(head, b"".join(map(bulk, arguments)), places, frozenset(queues))
        return order

    def _started(self) -> list[bytes]:
        """Return where and how STARTED is written: key prefix, TTL, the document around the task's id, its format."""
        document: dict[str, Any] = {
            "status": "STARTED",
            "result": {"pid": os.getpid(), "hostname": self.node or f"tranship@{socket.gethostname()}"},
            "traceback": None,
            "children": [],
            "date_done": None,
            "task_id": "",
        }
        place = [self._key_space.result(""), millis(self._options.result_ttl)]
        if self._options.result_serializer == "msgpack":
            # The empty id at its end is one byte; the script puts the id itself there.
            return [*place, codec.dumps(document, codec.MSGPACK)[:-1], b"", b"msgpack"]
        return [*place, json.dumps(document).encode().removesuffix(b'""}'), b"}", b"json"]


def _is_json(raw: bytes, message: RawMessage) -> bool:
    """Whether Python's own decoder, Celery's, takes the element; the script's is more lenient.

    Everything but the headers of what we wrote ourselves has been read strictly already.
    """
    text = message.headers if type(message.headers) is bytes else raw
    try:
        orjson.loads(text)
    except ValueError:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
    return True
