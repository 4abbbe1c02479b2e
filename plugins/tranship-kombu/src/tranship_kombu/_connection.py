"""One connection of the driver: kombu's, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Self

from tranship.errors import BrokerUnreachable
from tranship_kombu._client import Client
from tranship_kombu._place import Place
from tranship_kombu._queue import Explain, KombuQueue, LeasedQueue
from tranship_kombu._thread import OneThread

__all__ = ["KombuConnection"]


class KombuConnection:
    """See :class:`tranship.driver.Connection`.

    Args:
        place: the broker.
        prefix: what the names of its queues begin with there.
        explain: makes our errors of native ones.
    """

    table = None
    topic = None

    def __init__(self, place: Place, prefix: str, explain: Explain) -> None:
        self._loop = asyncio.get_running_loop()
        self._place = place
        self.lost: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._client = Client(place, prefix)
        self._thread = OneThread(f"tranship-kombu-{place.transport.name}")
        kind = LeasedQueue if place.transport.held == "lease" else KombuQueue
        self.queue = kind(place, self._client, self._thread, explain, self._broken)
        self._beating: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, place: Place, prefix: str, explain: Explain) -> Self:
        """Connect."""
        connection = cls(place, prefix, explain)
        try:
            await connection._thread.run(connection._client.open)
        except BaseException:
            connection._end()
            raise
        if place.transport.amqp:
            connection._beat()
        return connection

    @property
    def native(self) -> Any:
        """Kombu's connection. It belongs to a thread: use it where nothing else is under way."""
        return self._client.native

    async def ping(self) -> None:
        """Make one round trip."""
        await self._thread.run(self._client.ping)

    def abort(self) -> None:
        """Give it up, whatever its thread is doing: a call that does not come back ends by its own time limit."""
        self._went(
            BrokerUnreachable(f"{self._place.url}: given up: it did not answer in time, or the connection broke")
        )
        self._client.cut()

    async def aclose(self) -> None:
        """Give back what is held, close, and end the thread."""
        self._went(ConnectionAbortedError("it was closed"))
        self._end()
        await self._thread.ended()

    def _end(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
        self.queue.close()
        self._thread.later(self._client.close)
        self._thread.end()

    def _broken(self, error: Exception) -> None:
        """A verb has found out that it is lost; called in the thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._went, error)

    def _went(self, reason: BaseException) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    def _beat(self) -> None:
        self._beating = self._loop.call_later(1.0, self._beat)
        self._thread.later(self._client.beat)
