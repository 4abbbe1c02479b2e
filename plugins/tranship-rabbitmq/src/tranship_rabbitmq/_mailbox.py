"""A worker's mailbox in Celery's remote control, as it is on RabbitMQ: an exchange to hear, others to answer to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tranship import codec
from tranship.errors import MalformedMessage
from tranship.mailbox import TOLD, Mailbox
from tranship.ports import Tombstone
from tranship.protocol.broadcast import Broadcast, read_broadcast, revoke_broadcast
from tranship_rabbitmq._context import Context
from tranship_rabbitmq.amqp.channel import Arrived
from tranship_rabbitmq.amqp.content import Properties, properties_of
from tranship_rabbitmq.amqp.table import TableError, encode_table

__all__ = ["RabbitMailbox", "broadcast_revoke", "declare_mailbox", "mailbox_exchange"]


def mailbox_exchange(ctx: Context) -> str:
    """The exchange of Celery's remote control; a namespace's peers set ``control_exchange`` to match."""
    return f"{ctx.names.prefix}celery.pidbox"


async def broadcast_revoke(ctx: Context, ids: Sequence[str]) -> None:
    """Tell Celery's workers not to start ``ids``.

    Raises:
        BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
    """
    exchange = mailbox_exchange(ctx)
    await declare_mailbox(ctx)
    # Celery's clock only orders events; a command from outside never advances it.
    headers, body = revoke_broadcast(ids, clock=0)
    properties = Properties(codec.JSON, "utf-8", encode_table(headers), 2, 0)
    await ctx.side_publisher.publish(properties, codec.dumps(body), routing_key="", exchange=exchange, mandatory=False)


async def declare_mailbox(ctx: Context) -> None:
    """Have the exchange, as Celery declares it.

    Raises:
        BrokerUnreachable, BrokerRefused.
    """
    declaration: tuple[Any, ...] = (0, mailbox_exchange(ctx), "fanout", False, False, False, False, False, {})
    await ctx.topology.call("declaring Celery's mailbox", "exchange.declare", *declaration)


class RabbitMailbox(Mailbox):
    """See :class:`tranship.mailbox.Mailbox`.

    Args:
        ctx: of the backend.
        worker, hear, keep: as there.
        cancelled: returns the ids that are cancelled, those last that are remembered longest.
    """

    def __init__(
        self,
        ctx: Context,
        worker: str,
        *,
        hear: Callable[[Sequence[Tombstone]], None],
        keep: Callable[[Sequence[Tombstone]], Awaitable[object]],
        cancelled: Callable[[], Sequence[str]],
    ) -> None:
        super().__init__(worker, hear=hear, keep=keep)
        self._ctx = ctx
        self._cancelled = cancelled

    @property
    def queue(self) -> str:
        """The queue that Celery's tools expect this worker to read."""
        return f"{self.node}.{mailbox_exchange(self._ctx)}"

    def heard(self, arrived: Arrived) -> None:
        """Take in what came, whatever it is."""
        self.take(lambda: _broadcast_of(arrived), len(arrived.body))

    async def known(self) -> Sequence[str]:
        """The ids that are cancelled."""
        return self._cancelled()[-TOLD:]

    async def reply(self, asked: Broadcast, answer: Any, clock: int) -> None:
        """Publish the answer to the asker's exchange."""
        to = asked.reply_to
        assert to is not None
        table = encode_table({"ticket": to.ticket, "clock": clock})
        encoding = codec.content_encoding_of(asked.content_type)
        await self._ctx.side_publisher.publish(
            Properties(asked.content_type, encoding, table, 1, 0),
            codec.dumps({self.node: answer}, asked.content_type, name="answer"),
            routing_key=to.routing_key,
            exchange=to.exchange,
            mandatory=False,
        )


def _broadcast_of(arrived: Arrived) -> Broadcast:
    try:
        properties = properties_of(arrived.header)
        headers = properties.headers()
    except TableError as error:
        raise MalformedMessage(str(error)) from error
    return read_broadcast(headers, arrived.body, properties.content_type, properties.content_encoding)
