"""What has been taken and not handed out yet: served strictly by level, queues in turn inside a level."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from tranship.envelope import Priority
from tranship.ports import Delivery
from tranship_rabbitmq._names import Physical

__all__ = ["Shelf", "is_suspect"]

_ALONE: Final = 3
"""Delivered this often, a message may be what kills its workers: it takes nobody along."""


def is_suspect(delivery: Delivery) -> bool:
    """Whether it was delivered so often that it may be what kills its workers."""
    return delivery.delivery_count >= _ALONE


class Shelf:
    """Deliveries by the queue on the server they are from.

    Args:
        physicals: the queues, in the order to serve them.
    """

    def __init__(self, physicals: Sequence[Physical]) -> None:
        self._decks: dict[str, deque[Delivery]] = {one.name: deque() for one in physicals}
        self._levels: dict[Priority, deque[Physical]] = {}
        for one in physicals:
            self._levels.setdefault(one.priority, deque()).append(one)

    def __len__(self) -> int:
        return sum(map(len, self._decks.values()))

    def put(self, name: str, delivery: Delivery) -> None:
        """Add a delivery behind the others of its queue."""
        self._decks[name].append(delivery)

    def held(self, name: str) -> int:
        """How many there are from one queue."""
        return len(self._decks[name])

    def levels(self, skip: Collection[str]) -> Iterator[list[Physical]]:
        """The queues of each level in the order to serve them, the one whose turn it is first."""
        for queues in self._levels.values():
            wanted = [one for one in queues if one.queue not in skip]
            if wanted:
                yield wanted

    def take(self, limit: int, skip: Collection[str]) -> list[Delivery]:
        """Take up to ``limit``; one that was delivered often travels alone."""
        taken: list[Delivery] = []
        for queues in self._levels.values():
            while len(taken) < limit and (deck := self._next(queues, skip)):
                delivery = deck[0]
                if is_suspect(delivery):
                    return taken or [deck.popleft()]
                taken.append(deck.popleft())
        return taken

    def clear(self) -> list[Delivery]:
        """Take everything."""
        all_of_it = [delivery for deck in self._decks.values() for delivery in deck]
        for deck in self._decks.values():
            deck.clear()
        return all_of_it

    def _next(self, queues: deque[Physical], skip: Collection[str]) -> deque[Delivery] | None:
        for _ in range(len(queues)):
            one = queues[0]
            queues.rotate(-1)
            if one.queue not in skip and self._decks[one.name]:
                return self._decks[one.name]
        return None
