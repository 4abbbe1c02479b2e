"""Names on the server: of queues by level, of what is ours beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tranship.checks import invalid
from tranship.driver import Slot
from tranship.envelope import Priority
from tranship_rabbitmq._options import RabbitOptions

__all__ = ["Names", "Physical"]

_LONGEST: Final = 230
"""Bytes of a queue's name with its namespace: the server's limit is 255, and ours have a suffix."""
_DEAD: Final = ".dead"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SUFFIXES: Final = {Priority.HIGH: "~high", Priority.NORMAL: "", Priority.LOW: "~low", Priority.VERY_LOW: "~very_low"}


@dataclass(frozen=True, slots=True)
class Physical:
    """One queue on the server."""

    name: str
    queue: str
    """What it is a part of, as users call it."""
    priority: Priority
    """The level of what is in it; with ``max_priority`` the message's own number says which."""

    @property
    def living(self) -> str:
        """The queue whose dead letters it holds; or its own."""
        return self.queue.removesuffix(_DEAD)

    @property
    def dead(self) -> bool:
        """Whether it holds the dead letters of another queue: it is a plain one then, whatever the URL says."""
        return self.queue.endswith(_DEAD)


class Names:
    """Which queue on the server a level of a queue is, and back.

    *normal* is the plain name, which Celery's workers read. The other levels have queues of their own, or, with the
    option ``max_priority``, numbers in the one queue: larger is more urgent.
    """

    def __init__(self, options: RabbitOptions) -> None:
        self.prefix = options.prefix
        top = options.max_priority
        self._shared = bool(top)
        self._numbers = {
            Priority.HIGH: top,
            Priority.NORMAL: (2 * top + 1) // 3,
            Priority.LOW: (top + 1) // 3,
            Priority.VERY_LOW: 0,
        }

    @property
    def shared(self) -> bool:
        """Whether all levels are in one queue."""
        return self._shared

    def plain(self, queue: str) -> str:
        """The queue that Celery's workers read.

        Raises:
            InvalidOptionError: the server can have none of that name.
        """
        name = self.prefix + queue
        size = len(name.encode(errors="replace"))
        if not queue or size > _LONGEST:
            raise invalid("queue", queue, f"a name of 1 to {_LONGEST} bytes, the namespace included")
        # The server drops line feeds from the names it declares, and then returns what is published to them.
        if name.startswith("amq.") or _CONTROL.search(name) or size != len(name.encode(errors="ignore")):
            expected = "a name that is not the server's own (amq.*), in whole characters and without line feeds"
            raise invalid("queue", queue, expected)
        return name

    def place(self, queue: str, priority: Priority) -> tuple[str, int]:
        """Where a message of this level goes: the queue on the server, and its number there."""
        plain = self.plain(queue)
        if self._shared:
            return plain, self._numbers[priority]
        return plain + _SUFFIXES[priority], 0

    def dead(self, queue: str) -> Physical:
        """The dead letters of a queue."""
        return Physical(self.plain(queue) + _DEAD, queue + _DEAD, Priority.NORMAL)

    def own(self, name: str) -> str:
        """Something of ours that belongs to no queue."""
        return f"{self.prefix}tranship.{name}"

    def physical(self, queues: Iterable[str]) -> list[Physical]:
        """Every queue on the server that belongs to ``queues``, in the order to serve them: levels outside."""
        names = list(queues)
        levels = [Priority.NORMAL] if self._shared else list(Priority)
        return [Physical(self.place(queue, level)[0], queue, level) for level in levels for queue in names]

    def levels(self, slots: Iterable[Slot]) -> list[list[Physical]]:
        """The queues on the server that belong to ``slots``, level by level, in the order of the slots."""
        found: dict[Priority, dict[str, Physical]] = {}
        for queue, level in slots:
            shared = Priority.NORMAL if self._shared else level
            name = self.place(queue, shared)[0]
            found.setdefault(shared, {})[name] = Physical(name, queue, shared)
        return [list(queues.values()) for queues in found.values()]

    @property
    def levels_by_number(self) -> list[Priority]:
        """The level of each number that a peer may give a message, from 0 up."""
        if not self._shared:
            # Who gives one to a queue without numbers reaches the plain queue.
            return [Priority.NORMAL]
        return [self._level(number) for number in range(self._numbers[Priority.HIGH] + 1)]

    def level(self, physical: Physical, number: int | None) -> Priority:
        """The level of a message that was found in ``physical`` with this number."""
        if not self._shared:
            return physical.priority
        return self._level(number or 0)

    def _level(self, number: int) -> Priority:
        return next(level for level in Priority if number >= self._numbers[level])
