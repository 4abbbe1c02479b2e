"""When to connect again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tranship.errors import BrokerUnreachable
from tranship_redis._errors import NotReady

__all__ = ["Backoff", "until_ready"]

_FIRST: Final = 0.05
_LAST: Final = 2.0
_STEADY: Final = 5.0
"""A connection that lived so many seconds was a good one."""
_AT_OPEN: Final = 0.05
"""Seconds between two looks at a server that is not ready yet, while opening."""


class Backoff:
    """0.05 seconds, doubling up to 2, each with jitter; from the start again after a good connection."""

    __slots__ = ("_delay", "_hurried", "_since")

    def __init__(self) -> None:
        self._delay = _FIRST
        self._since: float | None = None
        self._hurried = asyncio.Event()

    def connected(self) -> None:
        """A connection has been made."""
        self._since = time.monotonic()

    def hurry(self) -> None:
        """End the pause that is being made."""
        self._hurried.set()

    async def pause(self) -> None:
        """Wait as long as it is time to."""
        self._hurried.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._next()):
                await self._hurried.wait()

    def _next(self) -> float:
        if self._since is not None and time.monotonic() - self._since >= _STEADY:
            self._delay = _FIRST
        self._since = None
        delay, self._delay = self._delay, min(self._delay * 2, _LAST)
        return delay * random.uniform(0.5, 1.0)


async def until_ready(connect: Callable[[], Awaitable[None]], seconds: float, silence: str) -> None:
    """Connect, again and again while the server says that it is not ready, but nothing else.

    Args:
        connect: one attempt.
        seconds: the bound on all of them.
        silence: the error's text where nobody has answered at all.

    Raises:
        BrokerUnreachable: not in time.
        Whatever else ``connect`` raises.
    """
    why: BrokerUnreachable = BrokerUnreachable(silence)
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await connect()
                except NotReady as error:
                    why = error
                await asyncio.sleep(_AT_OPEN)
    except TimeoutError as error:
        raise BrokerUnreachable(f"{why} (gave up after {seconds:g} s)") from error
