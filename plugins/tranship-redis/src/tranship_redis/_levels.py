"""Our four priority levels as Celery's priority steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tranship.envelope import Priority
from tranship_redis._keys import Keys

__all__ = ["STEPS", "Levels", "Place"]

STEPS: Final = (0, 3, 6, 9)
"""Celery's ``priority_steps``; a smaller one is served first."""


@dataclass(frozen=True, slots=True)
class Place:
    """One list of a queue."""

    key: bytes
    queue: str
    step: int
    priority: Priority


class Levels:
    """Which step a level travels at, and which level a step is delivered as.

    Args:
        keys: names the lists.
        normal_step: 3; or 0, where Celery's own producers (whose default step is 0) count as normal.
            HIGH and NORMAL then share a list, which is delivered as NORMAL unless a message's own header
            says otherwise; what is left in the list of step 3 is still served, as NORMAL, too.
    """

    __slots__ = ("_keys", "_priorities", "_steps")

    def __init__(self, keys: Keys, normal_step: int = 3) -> None:
        self._keys = keys
        self._steps = {Priority.HIGH: 0, Priority.NORMAL: normal_step, Priority.LOW: 6, Priority.VERY_LOW: 9}
        first = Priority.HIGH if normal_step else Priority.NORMAL
        self._priorities = {0: first, 3: Priority.NORMAL, 6: Priority.LOW, 9: Priority.VERY_LOW}

    def step(self, priority: Priority) -> int:
        """The step a message of this level is sent at."""
        return self._steps[priority]

    def priority(self, step: int) -> Priority:
        """The level a message from the list of this step is delivered as; kombu's rule between the steps."""
        return self._priorities[next(known for known in reversed(STEPS) if known <= max(step, 0))]

    def key(self, queue: str, priority: Priority) -> bytes:
        """The list a message of this level is pushed to."""
        return self._keys.list(queue, self._steps[priority])

    def places(self, queues: Iterable[str]) -> list[Place]:
        """Every list of ``queues``, in the order to serve them: steps outside."""
        names = list(queues)
        return [
            Place(self._keys.list(name, step), name, step, self._priorities[step]) for step in STEPS for name in names
        ]

    def lists(self, queues: Iterable[str]) -> list[tuple[bytes, str, Priority]]:
        """Every list of ``queues`` with its queue and level, in the order to serve them: steps outside."""
        names = list(queues)
        return [(self._keys.list(queue, step), queue, self._priorities[step]) for step in STEPS for queue in names]
