"""How long the kit waits for a broker, and when a verb that is under way is overdue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, Generic, NamedTuple, TypeVar

from tranship.timers import LazyTimer

__all__ = ["BLOCKED", "Deadlines", "Timed", "Timing"]

T = TypeVar("T")

BLOCKED: Final = 0.9
"""Seconds for which nothing but one verb has run, after which somebody is told."""


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


class Timed(Generic[T]):
    """Awaits something, and tells when it runs for long without letting anybody else run.

    Args:
        work: what is awaited.
        told: called with the seconds that it has run.
    """

    def __init__(self, work: Awaitable[T], told: Callable[[float], None]) -> None:
        self._steps, self._told = work.__await__(), told

    def __await__(self) -> Generator[Any, Any, T]:
        error: BaseException | None = None
        while True:
            began = time.monotonic()
            try:
                waits_for = self._steps.send(None) if error is None else self._steps.throw(error)
            except StopIteration as done:
                value: T = done.value
                return value
            finally:
                if (seconds := time.monotonic() - began) > BLOCKED:
                    self._told(seconds)
            try:
                yield waits_for
                error = None
            except BaseException as thrown:  # noqa: BLE001 - whatever is thrown in, a cancel above all, is the verb's
                error = thrown
