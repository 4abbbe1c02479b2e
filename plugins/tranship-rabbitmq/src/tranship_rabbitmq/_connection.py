"""A connection of the backend: one to publish over and one to consume over, and everything that works over them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tranship.errors import BrokerRefused, TranshipError, UnsupportedError
from tranship_rabbitmq._link import Dialler, Link
from tranship_rabbitmq._log import RabbitLog
from tranship_rabbitmq._publisher import Publisher
from tranship_rabbitmq._queue import RabbitQueue
from tranship_rabbitmq._replies import RabbitReplies
from tranship_rabbitmq._topic import RabbitTopic
from tranship_rabbitmq._topology import Topology

if TYPE_CHECKING:
    from tranship_rabbitmq._context import Context
    from tranship_rabbitmq.amqp.native import NativeConnection

__all__ = ["RabbitConnection"]

OLDEST = (3, 9)
"""Streams came with it, which cancels and names of queues are kept in."""


class RabbitConnection:
    """See :class:`tranship.driver.Connection`. It is lost with either of its two; the second one is made for the first
    who wants to receive anything.

    Args:
        ctx: of the backend.
        dialler: connects.
    """

    table = None

    def __init__(self, ctx: Context, dialler: Dialler) -> None:
        self._ctx = ctx
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.publishing = Link(dialler, "publish", self._lose)
        self.consuming = Link(dialler, "consume", self._lose)
        self.publisher = Publisher(self.publishing, ctx.tables)
        self.side_publisher = Publisher(self.publishing, ctx.tables)
        self.topology = Topology(self.publishing, ctx, lambda: Link(dialler, "declare"))
        self.queue = RabbitQueue(ctx, self)
        self.log = RabbitLog(ctx.names, self.consuming, self.publisher, self.topology)
        self.topic = RabbitTopic(self, ctx.names)
        self.replies = RabbitReplies(ctx, self)

    async def open(self) -> None:
        """Connect for publishing, and look at the server.

        Raises:
            BrokerUnreachable, BrokerRefused: it will not have us.
            UnsupportedError: it is older than 3.9.
        """
        await self.publishing.open()
        said, version = self.publishing.server, self.publishing.version
        product = str(said.get("product", ""))
        if product != "RabbitMQ":
            raise BrokerRefused(f"the server is {product or 'unnamed'} {said.get('version', '')}; expected RabbitMQ")
        if version < OLDEST:
            raise UnsupportedError(f"the server is RabbitMQ {said.get('version')}; 3.9 is the oldest that can be used")
        await self.publisher.open()
        self._ctx.queue_names.use(self.log)

    @property
    def native(self) -> NativeConnection:
        """The publishing connection as aio-pika has it: ``channel = await backend.native.channel()``.

        For the loop that opened the backend. It does not survive a reconnect. What comes on its channels is read by the
        client library: headers that it cannot read end the connection, which comes back.
        """
        return self.publishing.native

    async def ping(self) -> None:
        """Ask the server for a sign of life, on the channel that submits take."""
        await self.publishing.call(await self.publisher.open(), "ping", "channel.flow", True)

    def abort(self) -> None:
        """Give both up at once."""
        self.publishing.end("it was given up")
        self.consuming.end("it was given up")

    async def aclose(self) -> None:
        """Take leave of the server."""
        if not self.lost.done():
            # The backend is closed, and nobody comes back for what is on its way.
            await self.replies.delete()
        self._ctx.queue_names.leave(self.log)
        self.queue.close()
        self.topic.close()
        await asyncio.gather(self.consuming.aclose(), self.publishing.aclose())

    def _lose(self, why: TranshipError | None = None) -> None:
        if not self.lost.done():
            self.lost.set_result(why)
