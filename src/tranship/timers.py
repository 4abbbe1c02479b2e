"""A timer and a sleeper for one wait after the other, nearly all of which end before their time; and when to do what is
done every few seconds.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Final

__all__ = ["ROUND", "LazyTimer", "Sleeper", "next_round"]

ROUND: Final = 5.0
"""Seconds between two rounds."""
_PHASE: Final = random.uniform(0.0, ROUND)
"""When the rounds of this process are: others have theirs at other times."""
_LATE: Final = 0.1
"""By which part of a round one may be late; with less between, it is the next one."""


def next_round(now: float, seconds: float = ROUND) -> float:
    """Return when to do next what is done every ``seconds``, by a loop's clock.

    A process that has nothing else to do is woken once for all of it, where it is done at multiples of the same time.
    """
    return (math.floor((now - _PHASE) / seconds + _LATE) + 1) * seconds + _PHASE


class LazyTimer:
    """Calls back at the time that was set last.

    A timer of asyncio's for every wait costs a handle, its place in the loop's heap, and the way out of it. This one
    leaves what is in the heap alone when a wait ends or the next one begins; what comes too early then is set anew.
    Used on one loop.

    Args:
        callback: called without anything; does not raise.
    """

    __slots__ = ("_at", "_callback", "_handle")

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Call back at ``at``, by the running loop's clock, and not when it was set for before."""
        self._at = at
        handle = self._handle
        if handle is None or handle.when() > at:
            if handle is not None:
                handle.cancel()
            self._handle = asyncio.get_running_loop().call_at(at, self._fired)

    def clear(self) -> None:
        """Call back no more, until it is set again."""
        self._at = None

    def close(self) -> None:
        """Clear it, and leave nothing in the loop."""
        self._at = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fired(self) -> None:
        self._handle = None
        at = self._at
        if at is None:
            return
        if at <= asyncio.get_running_loop().time():
            self._at = None
            self._callback()
        else:
            self.set(at)


class Sleeper:
    """Waits until it is woken, or until its time is over. One waits at a time, on one loop."""

    __slots__ = ("_timer", "_waiter")

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._timer = LazyTimer(self.wake)

    async def sleep(self, seconds: float | None = None) -> None:
        """Return once :meth:`wake` is called, after ``seconds`` at the latest; None: however long that takes."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        if seconds is not None:
            self._timer.set(loop.time() + seconds)
        try:
            await waiter
        finally:
            self._waiter = None
            self._timer.clear()

    def wake(self, *_: object) -> None:
        """Wake who sleeps; nobody who sleeps later. It takes what callbacks are given, and needs none of it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Wake who sleeps, and leave nothing in the loop."""
        self.wake()
        self._timer.close()
