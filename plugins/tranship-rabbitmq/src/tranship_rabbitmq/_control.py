"""The control channel: the kit's, and beside it Celery's remote control, where Celery's programs are peers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from tranship import codec
from tranship.driver import Kit
from tranship.errors import MalformedMessage, TranshipError
from tranship.guards import one_listener
from tranship.mailbox import TOLD, LogicalClock, Mailbox, PeerTalk
from tranship.ports import ONLOOKER, CancelReport, Panel, SignalSink, Tombstone
from tranship.protocol.broadcast import Broadcast, read_broadcast, revoke_broadcast
from tranship.protocol.events import EXCHANGE, EventMessage
from tranship_rabbitmq._errors import error_of
from tranship_rabbitmq.amqp.channel import Arrived
from tranship_rabbitmq.amqp.content import Properties, properties_of
from tranship_rabbitmq.amqp.ends import ChannelEnded
from tranship_rabbitmq.amqp.table import TableError, encode_table

if TYPE_CHECKING:
    from tranship_rabbitmq._connection import RabbitConnection
    from tranship_rabbitmq._context import Context

__all__ = ["RabbitControl"]

log = logging.getLogger("tranship.rabbitmq")

CHUNK: Final = 1000
"""Ids per broadcast."""


class RabbitControl(PeerTalk):
    """See :class:`tranship.ports.ControlChannel` and :class:`tranship.ports.PeerControl`.

    A cancel by id is told to Celery's workers as a plain revoke, unless the option ``celery`` is ``off``: they do
    not start the task any more, and what runs there already runs on. What Celery's clients revoke is heard as a
    tombstone, and kept like one of ours.

    Args:
        ctx: of the backend.
        kit: what the driver kit has.
    """

    def __init__(self, ctx: Context, kit: Kit) -> None:
        super().__init__(speaks=ctx.options.celery == "on")
        self._kit, self._kits = kit, kit.control
        self._exchange = f"{ctx.names.prefix}celery.pidbox"
        """Of Celery's remote control; a namespace's peers set ``control_exchange`` to match."""
        self._events = f"{ctx.names.prefix}{EXCHANGE}"
        """Of Celery's events; they set ``event_exchange`` to match."""
        self._events_declared = False
        self._mailbox: RabbitMailbox | None = None
        self.send, self.beat = self._kits.send, self._kits.beat
        kit.on_restored(self._follow_again)

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Hear what Celery's clients say, then what tranship's do."""
        self._kit.check()
        if not self._speaks_celery or worker == ONLOOKER:
            await self._kits.listen(sink, worker=worker)
            return
        one_listener(self._mailbox)
        self._mailbox = RabbitMailbox(
            worker,
            self._exchange,
            self._publish,
            hear=sink,
            keep=self._kits.keep,
            kept=self._kits.kept,
            panel=self._panel,
            clock=self._clock,
        )
        try:
            await self._kit.run("follow", lambda _: self._follow_again())
            await self._kits.listen(sink, worker=worker)
        except BaseException:
            self._mailbox = None
            raise

    async def tell(self, node: str, messages: Sequence[EventMessage]) -> None:
        """Publish what has happened.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        self._kit.check()
        await self._kit.run("announce", lambda _: self._tell(node, messages))

    async def _tell(self, node: str, messages: Sequence[EventMessage]) -> None:
        if not self._events_declared:
            await self._declare(self._events, "topic", durable=True)
            self._events_declared = True
        for message in messages:
            properties = Properties(codec.JSON, "utf-8", encode_table({"hostname": node}), 1, 0)
            body = codec.dumps(message.body, name="event")
            await self._publish(properties, body, exchange=self._events, routing_key=message.routing_key)

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Cancel, and tell Celery's workers. What is queued stays there, and is dropped by who takes it."""
        report = await self._kits.cancel(tombstones)
        ids = [one.value for one in tombstones if one.kind == "id"]
        if ids and self._speaks_celery:
            await self._kit.run("revoke", lambda _: self._revoke(ids))
        # Last: everybody has heard of it by now.
        until = max((one.expires for one in tombstones), default=0.0)
        await self._kit.run("kept", lambda _: self._connection.log.kept(until=until))
        return report

    async def aclose(self) -> None:
        """Answer nobody of Celery's any more."""
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            await mailbox.aclose()

    @property
    def _connection(self) -> RabbitConnection:
        """The connection that is there now."""
        return cast("RabbitConnection", self._kit.connection)

    async def _revoke(self, ids: Sequence[str]) -> None:
        await self._declare(self._exchange, "fanout")
        for start in range(0, len(ids), CHUNK):
            # Celery's clock only orders events; a command from outside never advances it.
            headers, body = revoke_broadcast(ids[start : start + CHUNK], clock=0)
            properties = Properties(codec.JSON, "utf-8", encode_table(headers), 2, 0)
            await self._publish(properties, codec.dumps(body), exchange=self._exchange)

    async def _publish(self, properties: Properties, body: bytes, *, exchange: str, routing_key: str = "") -> None:
        """Publish what may go to an exchange that is not there, over a channel that takes no task along."""
        await self._connection.side_publisher.publish(
            properties, body, routing_key=routing_key, exchange=exchange, mandatory=False
        )

    async def _follow_again(self) -> None:
        """Read what is broadcast to Celery's workers. That it cannot be read keeps no worker from its work.

        Raises:
            BrokerUnreachable: the connection was lost.
        """
        if self._mailbox is None:
            return
        connection = self._connection
        try:
            await self._declare(self._exchange, "fanout")
            # Whoever administers the server may have removed it with everything else.
            self._events_declared = False
            await self._consume(connection, self._mailbox)
        except TranshipError as error:
            if not connection.consuming.up:
                raise
            log.warning("Celery's remote control is not followed as %s: %s", self._mailbox.node, error)

    async def _consume(self, connection: RabbitConnection, mailbox: RabbitMailbox) -> None:
        link, doing = connection.consuming, f"listening to {self._exchange!r}"
        await link.open()
        channel = await link.channel()
        channel.consumers["celery"] = mailbox.heard
        # Exclusive, and with times of life, as Celery declares its own.
        expiry = {"x-expires": 10_000, "x-message-ttl": 300_000}
        calls: list[tuple[Any, ...]] = [
            ("queue.declare", 0, mailbox.queue, False, False, True, True, False, expiry),
            ("queue.bind", 0, mailbox.queue, self._exchange, "", False, {}),
            ("basic.consume", 0, mailbox.queue, "celery", False, True, False, False, {}),
        ]
        try:
            for call in calls:
                await link.call(channel, doing, *call)
        except ChannelEnded as why:
            raise error_of(why, doing=doing) from why

    async def _declare(self, exchange: str, kind: str, *, durable: bool = False) -> None:
        """Have an exchange, as Celery declares it."""
        declaration: tuple[Any, ...] = (0, exchange, kind, False, durable, False, False, False, {})
        await self._connection.topology.call(f"declaring Celery's {exchange!r}", "exchange.declare", *declaration)


class RabbitMailbox(Mailbox):
    """See :class:`tranship.mailbox.Mailbox`.

    Args:
        worker: its name.
        exchange: of Celery's remote control.
        publish: sends an answer.
        hear, keep, panel, clock: as there.
        kept: returns what is cancelled.
    """

    def __init__(
        self,
        worker: str,
        exchange: str,
        publish: Callable[..., Awaitable[None]],
        *,
        hear: Callable[[Sequence[Tombstone]], None],
        keep: Callable[[Sequence[Tombstone]], Awaitable[object]],
        kept: Callable[[], Awaitable[Sequence[Tombstone]]],
        panel: Panel | None = None,
        clock: LogicalClock | None = None,
    ) -> None:
        super().__init__(worker, hear=hear, keep=keep, panel=panel, clock=clock)
        self._publish, self._kept = publish, kept
        self._replies = f"reply.{exchange}"
        self.queue: Final = f"{self.node}.{exchange}"
        """The queue that Celery's tools expect this worker to read."""

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
        if to.exchange != self._replies:
            # Askers have no other. One that is not there would end the channel, with answers to others on their way.
            log.debug("not answering %.80r to %.80r", asked.method, to.exchange)
            return
        table = encode_table({"ticket": to.ticket, "clock": clock})
        properties = Properties(asked.content_type, codec.content_encoding_of(asked.content_type), table, 1, 0)
        body = codec.dumps({self.node: answer}, asked.content_type, name="answer")
        await self._publish(properties, body, exchange=to.exchange, routing_key=to.routing_key)


def _broadcast_of(arrived: Arrived) -> Broadcast:
    try:
        properties = properties_of(arrived.header)
        headers = properties.headers()
    except TableError as error:
        raise MalformedMessage(str(error)) from error
    return read_broadcast(headers, arrived.body, properties.content_type, properties.content_encoding)
