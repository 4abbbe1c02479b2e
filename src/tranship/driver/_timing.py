"""How long the kit waits for a broker, and when a verb that is under way is overdue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from tranship.timers import LazyTimer

__all__ = ["Deadlines", "Timing"]


class Timing(NamedTuple):
    """How long the kit waits for a broker with a connection, in seconds."""

    connect: float | None = 5.0
    """For one attempt to connect; None: as long as it takes."""
    command: float | None = 10.0
    """For one verb, after which the connection is given up; None: as long as it takes."""
    keepalive: float | None = 5.0
    """Between two looks at an idle connection; None: never."""
    close: float | None = 2.0
    """For closing a connection; None: as long as it takes."""


class Deadlines:
    """The verbs that are under way over one connection; one timer for all, because nearly all are in time.

    Args:
        seconds: that a verb may take; None: as long as it takes.
        overdue: called when one has taken longer.
    """

    def __init__(self, seconds: float | None, overdue: Callable[[], None]) -> None:
        self._seconds, self._overdue = float("inf") if seconds is None else seconds, overdue
        self._until: dict[object, float] = {}
        self._next = float("inf")
        self._timer = LazyTimer(self._look)

    def begin(self, wait: float = 0.0) -> object:
        """Return a mark for :meth:`end`; the verb may wait ``wait`` seconds beyond its round trip."""
        mark = object()
        until = self._until[mark] = asyncio.get_running_loop().time() + self._seconds + wait
        if until < self._next:
            self._next = until
            self._timer.set(until)
        return mark

    def end(self, mark: object) -> None:
        """Wait for it no longer."""
        self._until.pop(mark, None)
        if not self._until:
            self._next = float("inf")
            self._timer.clear()

    def close(self) -> None:
        """Wait for nothing, and leave nothing in the loop."""
        self._until.clear()
        self._timer.close()

    def _look(self) -> None:
        self._next = min(self._until.values(), default=float("inf"))
        if self._next <= asyncio.get_running_loop().time():
            self._overdue()
        elif self._until:
            self._timer.set(self._next)
