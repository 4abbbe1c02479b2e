"""Connecting, again and again with back-off and jitter, and closing, within their time limits."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tranship.driver._connection import Connection
from tranship.driver._timing import Timing
from tranship.errors import BrokerUnreachable, TranshipError

__all__ = ["Classify", "Dialler", "unreachable"]

log = logging.getLogger("tranship.driver")

Classify = Callable[[Exception], TranshipError | None]
"""Makes one of our errors of a native one; None: it is a bug, and no news from the broker."""

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
STEADY: Final = 5.0
"""Seconds after which a connection was a good one: when it is lost, the next one is made at once."""


def unreachable(error: Exception) -> TranshipError | None:
    """Classify the errors of the standard library: what has to do with a connection, and nothing else."""
    if isinstance(error, OSError | EOFError | TimeoutError):
        return BrokerUnreachable(f"{type(error).__name__}: {error}")
    return None


class Dialler:
    """Opens the connections of one backend, and closes them.

    Args:
        url: without secrets.
        connect: opens a connection.
        classify: the driver's.
        timing: how long to wait for what.

    Attributes:
        failure: why the last attempt failed.
    """

    def __init__(
        self, url: str, connect: Callable[[], Awaitable[Connection]], classify: Classify, timing: Timing
    ) -> None:
        self._url, self._connect, self._classify, self._timing = url, connect, classify, timing
        self.failure: BaseException | None = None
        self._pause, self._since = 0.0, 0.0
        self._closes: set[asyncio.Task[None]] = set()

    async def connect(self) -> Connection:
        """Try once.

        Raises:
            BrokerUnreachable, BrokerRefused, ...: as the driver classifies it.
        """
        try:
            async with asyncio.timeout(self._timing.connect) as limit:
                connection = await self._connect()
        except TranshipError:
            raise
        except Exception as native:
            if limit.expired():
                text = f"{self._url}: no connection within {self._timing.connect} s"
                raise BrokerUnreachable(text) from native
            made = self._classify(native)
            if made is None:
                raise
            if isinstance(made, BrokerUnreachable):
                # A native error rarely says what could not be reached.
                made = BrokerUnreachable(f"cannot connect to {self._url}: {made}")
            raise made from native
        self._since = time.monotonic()
        return connection

    async def connect_again(self) -> Connection:
        """Try until there is a connection."""
        if time.monotonic() - self._since >= STEADY:
            self._pause = 0.0
        while True:
            if self._pause:
                # Jitter: a thousand clients of one server do not come back in the same moment.
                await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
            try:
                return await self.connect()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may succeed
                self.failure = error
                log.info("%s; trying again", error)

    def close_soon(self, connection: Connection) -> None:
        """Close a connection; :meth:`closed` waits for that."""
        task = asyncio.get_running_loop().create_task(self._close(connection))
        self._closes.add(task)
        task.add_done_callback(self._closes.discard)

    async def _close(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self._timing.close):
                await connection.aclose()
        except Exception as error:  # noqa: BLE001 - whatever happens, it is not used any more
            log.debug("%s: closing: %r", self._url, error)

    async def closed(self) -> None:
        """Return once everything is closed that was to be."""
        if self._closes:
            await asyncio.wait(self._closes)
