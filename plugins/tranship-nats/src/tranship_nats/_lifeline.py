"""A connection that comes back: opened, watched, and opened again when it is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.ports import ConnectionEvent
from tranship_nats._client import Connection
from tranship_nats._dial import Dialler
from tranship_nats._hooks import Hooks

__all__ = ["Lifeline"]

log = logging.getLogger("tranship.nats")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
GOODBYE: Final = 1.0
"""Seconds that what was handed over last may take to leave when it is closed."""


class Lifeline:
    """One connection at a time. What is sent over it is a subclass's business.

    Args:
        dialler: opens connections.
    """

    def __init__(self, dialler: Dialler) -> None:
        self.generation = 0
        """How many connections there have been."""
        self.since = 0.0
        """When the latest connection was made, in epoch seconds."""
        self.place = dialler.place
        self.hooks = Hooks()
        self._dialler = dialler
        self._connection: Connection | None = None
        self._reason: TranshipError | None = None
        self._closed = False
        self._came = asyncio.Event()
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    # What a subclass does.

    def _made(self, connection: Connection) -> None:
        """There is a new connection."""

    def _flush(self) -> None:
        """Hand over what has to leave before the end."""

    def _gone(self, error: TranshipError) -> None:
        """The connection has gone, with everything that was under way."""

    def _denied(self, text: str) -> None:
        """The server does not let this user use a subject."""

    # Life.

    async def open(self) -> None:
        """Connect.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        await self._connect()
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def aclose(self) -> None:
        """Send what was handed over, and close. Idempotent."""
        first, self._closed = not self._closed, True
        connection = self._connection
        if first and connection is not None:
            self._flush()
            # Bounded: whoever does not answer is left without a goodbye.
            await asyncio.wait({connection.pong()}, timeout=GOODBYE)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self._drop(ClosedError(f"the backend of {self.place} was closed"))
        self._came.set()

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def connection(self) -> Connection:
        """The connection.

        Raises:
            BrokerUnreachable: there is none now; nothing was sent.
        """
        if self._connection is None:
            raise self.down()
        return self._connection

    async def until_up(self, seconds: float) -> bool:
        """Wait for a connection; whether there is one."""
        if self._connection is None and not self._closed:
            try:
                async with asyncio.timeout(seconds):
                    await self._came.wait()
            except TimeoutError:
                return False
        return self._connection is not None

    # Connecting.

    async def _keep(self) -> None:
        try:
            await self._follow()
        finally:
            # Cancelled with a loop that ends, without a goodbye: the socket must not outlive it.
            await self._drop(ClosedError(f"the loop of the backend of {self.place} has ended"))

    async def _follow(self) -> None:
        while True:
            await self._lost.wait()
            await self._drop(self.down())
            self.hooks.tell(ConnectionEvent.LOST, self.generation)
            await self._reconnect()
            await self.hooks.call()
            if self._connection is not None:
                self.hooks.tell(ConnectionEvent.RESTORED, self.generation)

    async def _reconnect(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._connect()
            except TranshipError as error:
                self._reason = error
                log.info("%s", error)
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _connect(self) -> None:
        self._lost.clear()
        connection = await self._dialler.dial(self._went, self._denied)
        if self._lost.is_set():
            await connection.end()
            raise self.down()
        self._connection = connection
        self.generation += 1
        self.since = time.time()
        self._reason = None
        self._made(connection)
        self._came.set()

    def _went(self, error: Exception) -> None:
        reason = BrokerUnreachable(f"the connection to {self.place} was lost: {error or type(error).__name__}")
        reason.__cause__ = error
        self._reason = reason
        self._lost.set()

    async def _drop(self, error: TranshipError) -> None:
        connection, self._connection = self._connection, None
        self._came.clear()
        self._gone(error)
        if connection is not None:
            await connection.end()

    def down(self) -> TranshipError:
        """Return why there is no connection."""
        if self._closed:
            return ClosedError(f"the backend of {self.place} was closed")
        # Whatever the reason is, it may be mended while we wait: permanent is only what opening meets.
        error = BrokerUnreachable(str(self._reason or f"there is no connection to {self.place}"))
        error.__cause__ = self._reason and (self._reason.__cause__ or self._reason)
        return error
