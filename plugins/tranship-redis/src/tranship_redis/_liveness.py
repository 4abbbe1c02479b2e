"""Whether the other side still answers, found out without a timer per command."""

from __future__ import annotations

import asyncio
import math
from contextvars import Context
from typing import Final

from tranship_redis._pack import pack
from tranship_redis._wire import Wire

__all__ = ["Liveness"]

_PING: Final = pack(b"PING")
_TICKS: Final = 5
"""How many looks make up the shorter of the two times."""


class Liveness:
    """Looks at a connection every now and then: gives it up when it is silent too long, asks when it is idle.

    Time is counted in looks, not read from a clock: a process that was stopped for a while, or whose loop was
    blocked, does not blame the server.

    Args:
        wire: the connection.
        timeout: seconds without any progress, with commands unanswered, after which it is given up.
        keepalive: seconds without a word, with nothing to be answered, after which it is asked.
    """

    def __init__(self, wire: Wire, *, timeout: float, keepalive: float) -> None:
        self._wire = wire
        self._timeout = timeout
        self._keepalive = keepalive
        self._tick = max(min(timeout, keepalive) / _TICKS, 0.01)
        self._seen: tuple[object, ...] = ()
        self._silent = 0.0
        self._loop = asyncio.get_running_loop()
        self._context = Context()
        self._timer = self._again()

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _again(self) -> asyncio.TimerHandle:
        # All that look at the same pace look at once: a process that has nothing to do is woken once for all of them.
        place = math.floor(self._loop.time() / self._tick + 0.5) + 1
        return self._loop.call_at(place * self._tick, self._look, context=self._context)

    def _look(self) -> None:
        if self._wire.gone:
            return
        now = self._wire.progress()
        self._silent = 0.0 if now != self._seen else self._silent + self._tick
        self._seen = now
        if not self._wire.waiting:
            if self._silent >= self._keepalive:
                self._wire.post(_PING, _ignore)
        elif self._silent >= self._timeout:
            self._wire.abort(f"it has not answered for {self._timeout:g} s")
            return
        self._timer = self._again()


def _ignore(_: object) -> None:
    pass
