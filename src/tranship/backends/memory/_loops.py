"""Reaching an event loop from whatever thread changed the shared state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Wake", "call_on"]


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


class Wake:
    """Has a callback called on the loop on which this is made; rung often before that, once.

    Args:
        heard: the callback.
    """

    def __init__(self, heard: Callable[[], None]) -> None:
        self._loop, self._heard = asyncio.get_running_loop(), heard
        self._rung = False

    def ring(self) -> None:
        """Have it called soon; from any thread, under the broker's lock."""
        if not self._rung:
            self._rung = True
            call_on(self._loop, self._tell)

    def _tell(self) -> None:
        # The flag falls first: whoever rings from now on is heard once more.
        self._rung = False
        self._heard()
