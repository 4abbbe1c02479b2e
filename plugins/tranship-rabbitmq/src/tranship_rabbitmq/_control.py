"""The control channel: the kit's, and beside it Celery's remote control, where Celery's programs are peers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from tranship import codec
from tranship.driver import Kit
from tranship.errors import MalformedMessage, TranshipError
from tranship.guards import one_listener
from tranship.mailbox import TOLD, Mailbox
from tranship.ports import CancelReport, SignalSink, Tombstone
from tranship.protocol.broadcast import Broadcast, read_broadcast, revoke_broadcast
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._errors import error_of
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.content import Properties, properties_of
from tranship_rabbitmq.amqp.ends import ChannelEnded
from tranship_rabbitmq.amqp.table import TableError, encode_table

__all__ = ["RabbitControl"]

log = logging.getLogger("tranship.rabbitmq")

_CHUNK: Final = 1000
"""Ids per broadcast."""


class RabbitControl:
    """See :class:`tranship.ports.ControlChannel`.

    A cancel by id is told to Celery's workers as a plain revoke, unless the option ``celery`` is ``off``: they do
    not start the task any more, and what runs there already runs on. What Celery's clients revoke is heard as a
    tombstone, and kept like one of ours.

    Args:
        ctx: of the backend.
        kit: what the driver kit has.
    """

    def __init__(self, ctx: Context, kit: Kit) -> None:
        self._ctx, self._kits = ctx, kit.control
        self._channel: Channel | None = None
        self._mailbox: RabbitMailbox | None = None
        self.send, self.beat = self._kits.send, self._kits.beat
        if ctx.options.celery == "on":
            kit.on_restored(self._follow_again)

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Hear what Celery's clients say, then what tranship's do."""
        if self._ctx.options.celery != "on":
            await self._kits.listen(sink, worker=worker)
            return
        self._ctx.check()
        one_listener(self._mailbox)
        mailbox = self._mailbox = RabbitMailbox(
            self._ctx, worker, hear=sink, keep=self._kits.keep, kept=self._kits.kept
        )
        try:
            await self._follow(mailbox)
            await self._kits.listen(sink, worker=worker)
        except BaseException:
            self._mailbox = None
            mailbox.close()
            raise

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Cancel, and tell Celery's workers. What is queued stays there, and is dropped by who takes it."""
        report = await self._kits.cancel(tombstones)
        ids = [one.value for one in tombstones if one.kind == "id"]
        if ids and self._ctx.options.celery == "on":
            await self._declare()
            for start in range(0, len(ids), _CHUNK):
                await self._revoke(ids[start : start + _CHUNK])
        # Last: everybody has heard of it by now.
        await self._ctx.log.kept(until=max((one.expires for one in tombstones), default=0.0))
        return report

    async def aclose(self) -> None:
        """Answer nobody of Celery's any more."""
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            await mailbox.aclose()

    async def _revoke(self, ids: Sequence[str]) -> None:
        # Celery's clock only orders events; a command from outside never advances it.
        headers, body = revoke_broadcast(ids, clock=0)
        properties = Properties(codec.JSON, "utf-8", encode_table(headers), 2, 0)
        exchange = mailbox_exchange(self._ctx)
        await self._ctx.side_publisher.publish(
            properties, codec.dumps(body), routing_key="", exchange=exchange, mandatory=False
        )

    async def _follow_again(self) -> None:
        if self._mailbox is not None:
            await self._follow(self._mailbox)

    async def _follow(self, mailbox: RabbitMailbox) -> None:
        """Read what is broadcast to Celery's workers. That it cannot be read keeps no worker from its work.

        Raises:
            BrokerUnreachable: the connection was lost.
        """
        try:
            await self._declare()
            await self._consume(mailbox)
        except TranshipError as error:
            if not self._ctx.consuming.up:
                raise
            log.warning("Celery's remote control is not followed as %s: %s", mailbox.node, error)

    async def _consume(self, mailbox: RabbitMailbox) -> None:
        if self._channel is not None and self._channel.ended is None:
            return
        consuming, exchange = self._ctx.consuming, mailbox_exchange(self._ctx)
        doing = f"listening to {exchange!r}"
        await consuming.open()
        channel = self._channel = await consuming.channel()
        # Exclusive, and with times of life, as Celery declares its own.
        expiry = {"x-expires": 10_000, "x-message-ttl": 300_000}
        calls: list[tuple[Any, ...]] = [
            ("queue.declare", 0, mailbox.queue, False, False, True, True, False, expiry),
            ("queue.bind", 0, mailbox.queue, exchange, "", False, {}),
            ("basic.consume", 0, mailbox.queue, "celery", False, True, False, False, {}),
        ]
        channel.consumers["celery"] = mailbox.heard
        try:
            for call in calls:
                await consuming.call(channel, doing, *call)
        except ChannelEnded as why:
            raise error_of(why, doing=doing) from why

    async def _declare(self) -> None:
        """Have the exchange, as Celery declares it."""
        declaration: tuple[Any, ...] = (0, mailbox_exchange(self._ctx), "fanout", False, False, False, False, False, {})
        await self._ctx.topology.call("declaring Celery's mailbox", "exchange.declare", *declaration)


def mailbox_exchange(ctx: Context) -> str:
    """The exchange of Celery's remote control; a namespace's peers set ``control_exchange`` to match."""
    return f"{ctx.names.prefix}celery.pidbox"


class RabbitMailbox(Mailbox):
    """See :class:`tranship.mailbox.Mailbox`.

    Args:
        ctx: of the backend.
        worker, hear, keep: as there.
        kept: returns what is cancelled.
    """

    def __init__(
        self,
        ctx: Context,
        worker: str,
        *,
        hear: Callable[[Sequence[Tombstone]], None],
        keep: Callable[[Sequence[Tombstone]], Awaitable[object]],
        kept: Callable[[], Awaitable[Sequence[Tombstone]]],
    ) -> None:
        super().__init__(worker, hear=hear, keep=keep)
        self._ctx, self._kept = ctx, kept

    @property
    def queue(self) -> str:
        """The queue that Celery's tools expect this worker to read."""
        return f"{self.node}.{mailbox_exchange(self._ctx)}"

    def heard(self, arrived: Arrived) -> None:
        """Take in what came, whatever it is."""
        self.take(lambda: _broadcast_of(arrived), len(arrived.body))

    async def known(self) -> Sequence[str]:
        """The ids that are cancelled, those last that are remembered longest."""
        kept = sorted(await self._kept(), key=lambda one: one.expires)
        return [one.value for one in kept if one.kind == "id"][-TOLD:]

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
