"""Reaching an event loop from whatever thread changed the shared state."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

_LONGEST_TIMER = 3600.0


def call_on(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> bool:
    """Have ``loop`` call ``callback`` soon; False: it is closed, and nobody is left to tell."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    try:
        if running is loop:
            loop.call_soon(callback)
        else:
            loop.call_soon_threadsafe(callback)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


class Bell:
    """Wakes one waiting coroutine; may be rung from any thread, under the broker's lock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._rung = False

    def arm(self) -> None:
        """From now on a ring ends the next :meth:`wait`. Call it under the lock, before looking."""
        self._rung = False
        self._event.clear()

    def ring(self) -> None:
        """Wake the waiter, now or when it comes to wait."""
        if not self._rung:
            self._rung = True
            call_on(self._loop, self._event.set)

    async def wait(self, timeout: float) -> None:
        """Return when rung, or after ``timeout`` seconds."""
        timer = self._loop.call_later(min(timeout, _LONGEST_TIMER), self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()


class Outbox(Generic[T]):
    """Hands items to a callback on one loop, several at once; may be fed from any thread."""

    def __init__(self, deliver: Callable[[Sequence[T]], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._items: deque[T] = deque()
        self._scheduled = False
        self._closed = False

    def post(self, item: T) -> None:
        """Hand ``item`` over soon."""
        if self._closed:
            return
        self._items.append(item)
        if not self._scheduled:
            self._scheduled = True
            if not call_on(self._loop, self._flush):
                self.close()

    def close(self) -> None:
        """Hand nothing over any more."""
        self._closed = True
        self._items.clear()

    def _flush(self) -> None:
        # The flag falls first: whoever posts after the items were taken schedules another flush.
        self._scheduled = False
        items, self._items = self._items, deque()
        if items and not self._closed:
            self._deliver(tuple(items))
