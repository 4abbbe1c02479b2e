"""Things ordered by a number, and a mapping whose entries expire."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SLACK = 64


class Agenda(Generic[T]):
    """A set of items with keys, smallest key first, first added first among equals.

    Leaving is cheap: what has left stays in the heap as a shell until it surfaces or shells outnumber items.
    """

    def __init__(self) -> None:
        self._keys: dict[T, float] = {}
        self._heap: list[tuple[float, int, T]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[T]:
        return iter(self._keys)

    def add(self, item: T, key: float) -> None:
        """Add ``item``, or give it another key."""
        self._keys[item] = key
        heapq.heappush(self._heap, (key, next(self._order), item))

    def discard(self, item: T) -> None:
        """Remove ``item`` if it is here."""
        self._keys.pop(item, None)
        if len(self._heap) > 2 * len(self._keys) + _SLACK:
            self._heap = [shell for shell in self._heap if self._keys.get(shell[2]) == shell[0]]
            heapq.heapify(self._heap)

    def first(self) -> tuple[float, T] | None:
        """Return the smallest key with its item."""
        while self._heap:
            key, _, item = self._heap[0]
            if self._keys.get(item) == key:
                return key, item
            heapq.heappop(self._heap)
        return None

    def in_order(self) -> list[T]:
        """Return every item, smallest key first."""
        return sorted(self._keys, key=self._keys.__getitem__)

    def key(self, item: T) -> float | None:
        """Return the key of ``item``; None: it is not here."""
        return self._keys.get(item)

    def pop_due(self, now: float) -> T | None:
        """Remove and return the first item, if its key is ``now`` or smaller."""
        if not self._keys or (head := self.first()) is None or head[0] > now:
            return None
        heapq.heappop(self._heap)
        del self._keys[head[1]]
        return head[1]


class Expiring(Generic[K, V]):
    """A mapping that forgets; every method takes the present time of one and the same clock."""

    def __init__(self) -> None:
        self._values: dict[K, V] = {}
        self._ends: Agenda[K] = Agenda()

    def put(self, key: K, value: V, *, until: float) -> None:
        """Keep ``value`` until then."""
        self._values[key] = value
        self._ends.add(key, until)

    def get(self, key: K, now: float) -> V | None:
        """Return what is kept under ``key``."""
        self._forget(now)
        return self._values.get(key)

    def drop(self, key: K) -> None:
        """Forget ``key``, if it is known."""
        self._values.pop(key, None)
        self._ends.discard(key)

    def values(self, now: float) -> list[V]:
        """Return everything that is kept."""
        self._forget(now)
        return list(self._values.values())

    def _forget(self, now: float) -> None:
        while (key := self._ends.pop_due(now)) is not None:
            del self._values[key]
