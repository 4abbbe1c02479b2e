"""One connection to the server: a socket for everything, and where it is needed one for subscriptions and one for work.

Once one of the sockets is lost, the connection is; the driver kit then makes a new one.
"""

from __future__ import annotations

import asyncio

from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.protocol import number_of
from tranship_redis._broker import Broker
from tranship_redis._channel import Channel
from tranship_redis._connect import Dialler
from tranship_redis._handshake import greet
from tranship_redis._liveness import Liveness
from tranship_redis._queue import RedisQueue
from tranship_redis._server import ServerInfo
from tranship_redis._sweeper import Sweeper
from tranship_redis._table import RedisTable
from tranship_redis._topic import RedisTopic
from tranship_redis._wire import PushHandler, Wire

__all__ = ["RedisConnection"]


class RedisConnection:
    """See :class:`tranship.driver.Connection`.

    Args:
        dialler: connects the sockets.
        broker: what is known beyond the connection.
        address: where Celery would send results.
        was_master: the server served us before.

    Attributes:
        main: submits, results, control and inspection.
        pubsub: subscriptions: ``main`` itself over RESP3, a socket of its own over RESP2.
        handlers: who gets what the server pushes, by kind.
        fsync: how the server syncs its append-only file; None: there is none, or it does not say.
        lost: done, with the reason, once it cannot be used any more.
    """

    taskless = True

    def __init__(self, dialler: Dialler, broker: Broker, *, address: str, was_master: bool) -> None:
        self._dialler, self._broker, self._was_master = dialler, broker, was_master
        self.handlers: dict[bytes, tuple[PushHandler, ...]] = {}
        self.place, self.address = dialler.place, address
        self.table: RedisTable | None = None
        self.topic: RedisTopic | None = None
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.fsync: str | None = None
        self._channels: list[Channel] = []
        self._lives: list[Liveness] = []
        self._work: Channel | None = None
        self._opening = asyncio.Lock()
        self._sweeper: Sweeper | None = None

    async def open(self) -> None:
        """Connect, with a socket for work if there has been one before.

        Raises:
            As :meth:`Dialler.dial` and :func:`greet`.
        """
        try:
            self.main = self.pubsub = await self._open(load=True)
            if not self.server.is_resp3:
                self.pubsub = await self._open(subscriber=True)
            self.queue = RedisQueue(self._broker, self.main, self.work, self._ends)
            self.table = RedisTable(self.main, self._broker.keys)
            self.topic = RedisTopic(self.main, self.pubsub, self._broker.keys, self.table)
            self.handlers = {b"message": (self.topic.heard,), b"invalidate": (self.queue.taking.changed,)}
            if self._broker.works:
                await self.work()
            self.fsync = await self._fsync()
        except BaseException:
            await self.aclose()
            raise

    @property
    def server(self) -> ServerInfo:
        """What the server says of itself."""
        return self.main.server

    async def work(self) -> Channel:
        """Return the socket for claims and ends; it is opened by who asks first, and swept over from then on.

        Raises:
            As :meth:`open`.
        """
        if self._work is not None:
            return self._work
        self._broker.works = True
        async with self._opening:
            if self._work is None:
                channel = await self._open(load=True)
                await self.queue.taking.start(channel)
                if self.lost.done():
                    raise BrokerUnreachable(f"{self.place}: the connection has gone meanwhile")
                self._work = channel
                self._sweeper = Sweeper(self._broker, channel, self.queue.taking.ring)
                self._sweeper.start()
            return self._work

    def _ends(self) -> Channel:
        return self._work or self.main

    async def _fsync(self) -> str | None:
        if not self.server.aof_enabled:
            return None
        try:
            found = await self.main.call(b"CONFIG", b"GET", b"appendfsync")
        except TranshipError:
            return None  # a managed server keeps its configuration to itself
        values = list(found.values()) if isinstance(found, dict) else found[1::2]
        return values[0].decode() if values else None

    async def _open(self, *, load: bool = False, subscriber: bool = False) -> Channel:
        writer = await self._dialler.dial()
        if self.lost.done():
            writer.transport.abort()
            raise BrokerUnreachable(f"{self.place}: the connection has gone meanwhile")
        channel = Channel(self.place, self._went)
        wire = Wire(writer, self.handlers_of, channel.gone, subscriber=subscriber)
        channel.use(wire)
        self._channels.append(channel)
        options = self._broker.options
        self._lives.append(Liveness(wire, timeout=options.command_timeout, keepalive=options.keepalive))
        is_resp3 = self._dialler.protocol == 3
        channel.server = await greet(wire, self.place, is_resp3=is_resp3, load=load, was_master=self._was_master)
        return channel

    def handlers_of(self, kind: bytes) -> tuple[PushHandler, ...]:
        """Return who gets pushes of a kind."""
        return self.handlers.get(kind, ())

    def _went(self, reason: TranshipError) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        for channel in self._channels:
            channel.abort(str(reason))

    # What the kit calls.

    @property
    def native(self) -> Channel:
        """The main socket: ``await backend.native.call("TTL", key)``."""
        return self.main

    async def now(self) -> float | None:
        """Ask the server what time it is."""
        found = [number_of(part) for part in await self.main.call(b"TIME")]
        if len(found) != 2 or found[0] is None or found[1] is None:
            return None
        return found[0] + found[1] / 1e6

    async def ping(self) -> None:
        """Ask the server for a sign of life on each of the sockets."""
        await asyncio.gather(*(channel.call(b"PING") for channel in self._channels))

    def abort(self) -> None:
        """Drop the sockets."""
        self._went(BrokerUnreachable(f"{self.place}: it does not answer"))

    async def aclose(self) -> None:
        """Close the sockets. What waits for an answer gets ClosedError, unless it is lost already."""
        if self.topic is not None:
            self.topic.close()
        if self._sweeper is not None:
            await self._sweeper.aclose()
        error = ClosedError(f"the connection to {self.place} has been closed; open a new backend")
        if not self.lost.done():
            self.lost.set_result(ConnectionAbortedError("it was closed"))
        for channel, life in zip(self._channels, self._lives, strict=True):
            life.stop()
            channel.fail(error)
        await asyncio.gather(*(channel.aclose() for channel in self._channels))
