"""Live signals: an exchange, and a queue for each connection that wants to hear any, bound to their names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.driver import Heard, Subscriptions
from tranship.errors import TranshipError
from tranship_rabbitmq._errors import error_of
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.content import Properties
from tranship_rabbitmq.amqp.ends import ChannelEnded
from tranship_rabbitmq.amqp.methods import Method

if TYPE_CHECKING:
    from tranship_rabbitmq._connection import RabbitConnection
    from tranship_rabbitmq._names import Names

__all__ = ["RabbitTopic"]

_DOING: Final = "listening to signals"
_AT_ONCE: Final = Properties(delivery_mode=1)


class RabbitTopic:
    """See :class:`tranship.driver.Topic`. The queue is made when :meth:`active` is awaited first, and goes with the
    connection.

    Args:
        connection: what signals go over; it is given up when they are not heard any more, though it lives.
        names: on the server.
    """

    def __init__(self, connection: RabbitConnection, names: Names) -> None:
        self._connection, self._exchange = connection, names.own("topic")
        self._subscriptions = Subscriptions()
        self._names: set[str] = set()
        self._queue, self._declared = "", False
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Publish to the exchange, over a channel that takes no task along when it ends.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
        """
        await self._declare()
        messages = [(_AT_ONCE, value, name) for name, value in items]
        try:
            await self._connection.side_publisher.publish_all(messages, exchange=self._exchange)
        except TranshipError:
            # Perhaps it has been deleted: it is declared again by who tells it again.
            self._declared = False
            raise

    def subscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Bind the queue to what nobody has heard before."""
        for name in self._subscriptions.add(names, heard):
            self._names.add(name)
            if self._channel is not None:
                self._channel.post(*self._bind(name))

    def unsubscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Take back the binding of what nobody wants to hear any more."""
        for name in self._subscriptions.remove(names, heard):
            self._names.discard(name)
            if self._channel is not None:
                self._channel.post(_ignored, "queue.unbind", 0, self._queue, self._exchange, name, {})

    async def active(self) -> None:
        """Return when the server has made the queue, and knows of all bindings.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        async with self._opening:
            if self._channel is None:
                await self._open()
        assert self._channel is not None
        try:
            # Answered behind everything that was asked before.
            await self._connection.consuming.call(self._channel, _DOING, "channel.flow", True)
        except ChannelEnded as why:
            raise error_of(why, doing=_DOING) from why

    def close(self) -> None:
        """Hear nothing any more."""
        if self._channel is not None:
            self._channel.on_ended = lambda _why: None
            self._channel.post(_ignored, "channel.close", 200, "", 0, 0)

    async def _open(self) -> None:
        await self._declare()
        consuming = self._connection.consuming
        await consuming.open()
        channel = await consuming.channel()
        try:
            # Exclusive and auto-deleted: it is nobody else's, and gone with the connection.
            reply = await consuming.call(channel, _DOING, "queue.declare", 0, "", False, False, True, True, False, {})
            assert isinstance(reply, Method)
            self._queue = reply.arguments[0]
            channel.consumers["signals"] = self._heard
            channel.on_cancelled = lambda _tag: self._connection.abort()
            consume: tuple[Any, ...] = (0, self._queue, "signals", False, True, False, False, {})
            await consuming.call(channel, _DOING, "basic.consume", *consume)
        except ChannelEnded as why:
            raise error_of(why, doing=_DOING) from why
        channel.on_ended = lambda _why: self._connection.abort()
        self._channel = channel
        for name in self._names:
            channel.post(*self._bind(name))

    def _bind(self, name: str) -> tuple[Any, ...]:
        return _ignored, "queue.bind", 0, self._queue, self._exchange, name, False, {}

    def _heard(self, arrived: Arrived) -> None:
        # Not from inside of the wire, which ends over an error.
        asyncio.get_running_loop().call_soon(self._subscriptions.tell, arrived.routing_key, arrived.body)

    async def _declare(self) -> None:
        if self._declared:
            return
        declaration: tuple[Any, ...] = (0, self._exchange, "direct", False, True, False, False, False, {})
        await self._connection.topology.call(f"declaring {self._exchange!r}", "exchange.declare", *declaration)
        self._declared = True


def _ignored(_reply: object) -> None:
    """Who has to know asks behind it."""
