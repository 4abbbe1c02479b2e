"""Trying again: pauses that grow, and calls that are repeated until they go well or there is no patience left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tranship.errors import TranshipError

__all__ = ["Pauses", "patiently"]

log: logging.Logger = logging.getLogger("tranship")

FIRST: Final = 0.1
LONGEST: Final = 5.0
"""Seconds between two attempts to reach a broker."""

T = TypeVar("T")


class Pauses:
    """Seconds to wait after each attempt that failed: twice as long each time, up to a bound.

    Args:
        first: seconds.
        longest: seconds.
    """

    def __init__(self, first: float | None = None, longest: float | None = None) -> None:
        self._first = FIRST if first is None else first
        self._longest = LONGEST if longest is None else longest
        self._following = self._first

    def next(self) -> float:
        """Return how long to wait now."""
        pause = self._following
        self._following = min(pause * 2, self._longest)
        return pause

    def reset(self) -> None:
        """An attempt has worked, or something has changed."""
        self._following = self._first


async def patiently(call: Callable[[], Awaitable[T]], seconds: float, what: str) -> T:
    """Return what ``call`` does; call again what a broker or a store could not answer, for so many seconds.

    Args:
        call: may be repeated without harm.
        seconds: after which the error is raised.
        what: what an entry of the log calls it.

    Raises:
        TranshipError: at once what calling again does not mend, the rest after ``seconds``.
    """
    pauses, until = Pauses(), asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await call()
        except TranshipError as error:
            if not error.retryable or asyncio.get_running_loop().time() > until:
                raise
            log.info("%s failed, trying again: %s", what, error)
        await asyncio.sleep(pauses.next())
