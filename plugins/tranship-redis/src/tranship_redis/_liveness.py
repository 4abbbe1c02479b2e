"""Whether the other side still answers, found out without a timer per command."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final

from tranship.timers import next_round
from tranship_redis._pack import pack
from tranship_redis._wire import Wire

__all__ = ["Liveness"]

_PING: Final = pack(b"PING")
_TICKS: Final = 5
"""How many looks make up the shorter of the two times, while something is to be answered."""
_IDLE_TICKS: Final = 2
"""The same while nothing is."""


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
        shorter = min(timeout, keepalive)
        self._tick, self._idle_tick = max(shorter / _TICKS, 0.01), max(shorter / _IDLE_TICKS, 0.01)
        self._pace = self._tick
        self._seen: tuple[object, ...] = ()
        self._silent = 0.0
        self._loop = asyncio.get_running_loop()
        self._context = Context()
        self._timer = self._again()

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _again(self) -> asyncio.TimerHandle:
        self._pace = self._tick if self._wire.waiting else self._idle_tick
        return self._loop.call_at(next_round(self._loop.time(), self._pace), self._look, context=self._context)

    def _look(self) -> None:
        if self._wire.gone:
            return
        now = self._wire.progress()
        self._silent = 0.0 if now != self._seen else self._silent + self._pace
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
