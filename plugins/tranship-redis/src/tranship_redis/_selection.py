"""Which lists a consumer of many queues looks at next: those that may hold something, and not all there are.

A claim that passed every list of a thousand queues would keep the server busy for longer than its tasks. So a list
that was found empty is left out until the server says that it has changed, or somebody on our own connection put
something there, or some time has passed: a push may get lost. What is left is taken level by level, strictly, and in
turn inside of a level, a bounded number of lists at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from tranship.driver import Slot
from tranship_redis._keys import Keys
from tranship_redis._levels import STEPS, Levels, Place
from tranship_redis._options import RedisOptions
from tranship_redis._pack import bulk

__all__ = ["MANY", "Pick", "Queue", "Report", "Selection", "Spot", "peers_of", "pick_of"]

MANY: Final = 8
"""Queues up to which a claim looks at every list: choosing would cost more."""
_FEWEST: Final = 16
_MOST: Final = 1024
"""Lists, and schedules, in one claim; the server reads nothing else meanwhile."""


@dataclass(eq=False, slots=True)
class Queue:
    """One queue, with its parts of a claim."""

    name: str
    arguments: bytes
    """Its name, its list of step 0, and whether it has Celery peers."""
    schedule: bytes
    """Its keys of what is delayed."""
    due: float = float("inf")
    """When the next of its delayed messages is due, by the loop's clock."""
    spots: list[Spot] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Spot:
    """One list of a queue."""

    queue: Queue
    level: int
    place: Place
    part: bytes
    """Its key, as a part of a claim."""


@dataclass(frozen=True, slots=True)
class Pick:
    """What one claim looks at."""

    schedules: list[Queue]
    spots: list[Spot]


@dataclass(frozen=True, slots=True)
class Report:
    """What a claim says of what it has looked at, by numbers from 1."""

    rest: Collection[int]
    """Lists that may hold more; the others are empty, and the server says when that ends."""
    taken: Collection[int]
    """Lists that something was taken from."""
    waits: Iterable[int]
    """For each schedule, milliseconds until the next message is due; -1: there is none."""
    filled: Iterable[int]
    """Schedules whose messages went to their lists."""


class Selection:
    """What is known of the lists of one consumer.

    Args:
        options: of the URL.
        keys: of the namespace.
        levels: of its lists.
        queues: their names, more than a few.
    """

    def __init__(self, options: RedisOptions, keys: Keys, levels: Levels, queues: Iterable[str]) -> None:
        self._queues = {name: _queue(options, keys, levels, name) for name in queues}
        self._spots = {spot.place.key: spot for queue in self._queues.values() for spot in queue.spots}
        self._schedules = {keys.delayed(name): queue for name, queue in self._queues.items()}
        self._open: list[dict[Spot, None]] = [{} for _ in STEPS]
        self._unread: dict[Queue, None] = {}
        self._times: list[tuple[float, int, Queue]] = []
        self._numbers = itertools.count()
        self._size = _MOST
        self._looked = float("-inf")
        self.troubled: set[str] = set()
        """Queues with a list that could not be used, since everything was marked last."""
        self.mark(None)

    @property
    def due(self) -> float:
        """When the next delayed message is due, by the loop's clock."""
        while self._times and self._times[0][2].due != self._times[0][0]:
            heappop(self._times)
        return self._times[0][0] if self._times else float("inf")

    @property
    def open(self) -> bool:
        """Whether there is anything to look at, unless something becomes due."""
        return bool(self._unread) or any(self._open)

    def mark(self, keys: Iterable[bytes] | None) -> None:
        """Something may have come to these lists and schedules; None: to any."""
        if keys is None:
            self.mark_queues(self._queues)
            self._size = _MOST
            self.troubled.clear()
            return
        for key in keys:
            spot, queue = self._spots.get(key), self._schedules.get(key)
            if spot is not None:
                self._open[spot.level].setdefault(spot)
            if queue is not None:
                self._unread.setdefault(queue)

    def mark_queues(self, names: Iterable[str]) -> None:
        """Something may have come to any list of these queues."""
        for name in names:
            if (queue := self._queues.get(name)) is not None:
                self._mark(queue)
                self._unread.setdefault(queue)

    def spot_of(self, key: bytes) -> Spot | None:
        """Return the list with this key."""
        return self._spots.get(key)

    def refresh(self, now: float, lifetime: float) -> None:
        """Believe nothing that was learned longer than ``lifetime`` seconds ago."""
        if now - self._looked >= lifetime:
            self._looked = now
            self.mark(None)

    def pick(self, limit: int, skip: Collection[str], now: float) -> Pick | None:
        """Return what to look at next for ``limit`` messages; None: there is nothing.

        A level is begun when all lists of those above that may hold something are among what is returned.
        """
        while self.due <= now:
            self._unread.setdefault(heappop(self._times)[2])
        size = max(self._size, min(limit, _MOST))
        schedules = list(itertools.islice((queue for queue in self._unread if queue.name not in skip), size))
        spots: list[Spot] = []
        for level in self._open:
            wanted = (spot for spot in level if spot.queue.name not in skip)
            spots += itertools.islice(wanted, size - len(spots))
            if len(spots) == size:
                break
        return Pick(schedules, spots) if schedules or spots else None

    def learn(self, pick: Pick, report: Report, now: float) -> None:
        """Take in what a claim says, in the order in which the server says what has changed since."""
        for number, spot in enumerate(pick.spots, 1):
            level = self._open[spot.level]
            if number not in report.rest:
                level.pop(spot, None)
            elif number in report.taken:
                # To the end: the others come first.
                level.pop(spot, None)
                level[spot] = None
        for queue, wait in zip(pick.schedules, report.waits, strict=True):
            self._unread.pop(queue, None)
            queue.due = now + wait / 1000 if wait >= 0 else float("inf")
            if wait >= 0:
                heappush(self._times, (queue.due, next(self._numbers), queue))
        for number in report.filled:
            self._mark(pick.schedules[number - 1])
        self._size = _FEWEST if report.taken else min(2 * self._size, _MOST)

    def _mark(self, queue: Queue) -> None:
        for spot in queue.spots:
            self._open[spot.level].setdefault(spot)


def peers_of(options: RedisOptions, keys: Keys, queue: str) -> bytes:
    """Return whether ``queue`` has Celery peers, as the script takes it: ``1``, ``0``, or the key that says so."""
    peers = options.celery_queues.of(queue)
    return keys.binding(queue) if peers is None else b"1" if peers else b"0"


def pick_of(options: RedisOptions, keys: Keys, levels: Levels, slots: Iterable[Slot]) -> Pick:
    """Return just the lists of these slots, in their order; what is delayed in their queues goes to its lists first."""
    queues = {name: _queue(options, keys, levels, name) for name in dict.fromkeys(queue for queue, _ in slots)}
    spots = [spot for name, level in slots for spot in queues[name].spots if spot.place.priority is level]
    return Pick(list(queues.values()), spots)


def _queue(options: RedisOptions, keys: Keys, levels: Levels, name: str) -> Queue:
    arguments = bulk(name.encode()) + bulk(keys.list(name, 0)) + bulk(peers_of(options, keys, name))
    queue = Queue(name, arguments, bulk(keys.delayed(name)) + bulk(keys.delayed_messages(name)))
    for level, place in enumerate(levels.places([name])):
        queue.spots.append(Spot(queue, level, place, bulk(place.key)))
    return queue
