"""The backend: opens and closes, and hands out the ports."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tranship import codec
from tranship.errors import BrokerRefused, ClosedError, UnsupportedError
from tranship.guards import Gate
from tranship.ports import Capabilities, Capability, ConnectionEvent, CountKind, Level, Support
from tranship.settings import BackendConfig
from tranship_rabbitmq._consumer import RabbitConsumer
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._control import RabbitControl
from tranship_rabbitmq._delays import TICK
from tranship_rabbitmq._heartbeats import Heartbeats
from tranship_rabbitmq._inspector import RabbitInspector
from tranship_rabbitmq._journal import Journal
from tranship_rabbitmq._names import Names
from tranship_rabbitmq._options import RabbitOptions, places
from tranship_rabbitmq._publisher import Publisher
from tranship_rabbitmq._replies import Replies
from tranship_rabbitmq._submitter import RabbitSubmitter
from tranship_rabbitmq._supervisor import Supervisor
from tranship_rabbitmq._tables import Tables
from tranship_rabbitmq._topology import Topology
from tranship_rabbitmq._warnings import warnings_of

if TYPE_CHECKING:
    from tranship_rabbitmq.amqp.native import NativeConnection

__all__ = ["RabbitBackend"]

log = logging.getLogger("tranship.rabbitmq")

_OLDEST = (3, 9)
"""Streams came with it, which cancels and names of queues are kept in."""


class RabbitBackend:
    """Tasks in RabbitMQ, on Celery's own queues; see :class:`tranship.ports.Backend`.

    Connections: one that publishes; one more, with the first who wants to receive anything, that consumes.
    """

    name = "rabbitmq"

    def __init__(self, config: BackendConfig) -> None:
        self._url = config.url
        self._options = config.options_as(RabbitOptions)
        self._gate = Gate(self.url)
        self._address = str(uuid.uuid4())
        found = places(config.url, self._options)
        self._publishing = Supervisor(found, self._options, "publish")
        self._consuming = Supervisor(found, self._options, "consume")
        self._ports: _Ports | None = None
        self._begun = False
        self._consumers: list[RabbitConsumer] = []
        self._publishing.on_event(self._hurry(self._consuming))
        self._consuming.on_event(self._hurry(self._publishing))

    @property
    def url(self) -> str:
        """The URL as it was given, without secrets."""
        return str(self._url)

    @property
    def capabilities(self) -> Capabilities:
        """What RabbitMQ can do: all but keep results, dedup keys and leases."""
        return _capabilities(self._options)

    @property
    def address(self) -> str:
        """The queue that results for this process go to."""
        return self._address

    @property
    def warnings(self) -> Sequence[str]:
        """What is set at the server in a way that loses or delays work."""
        odd = {} if self._ports is None else self._ports.context.topology.odd
        return warnings_of(self._options, self._publishing, odd)

    @property
    def native(self) -> NativeConnection:
        """The publishing connection as aio-pika has it: ``channel = await backend.native.channel()``.

        For the loop that opened the backend. It does not survive a reconnect. What comes on its channels is read by the
        client library: headers that it cannot read end the connection, which comes back.

        Raises:
            BrokerUnreachable: there is none at the moment.
            ClosedError: there will be none any more, or the backend has not been opened.
        """
        self._opened()
        return self._publishing.native

    async def open(self) -> None:
        """Connect, and look at the server.

        Raises:
            BrokerUnreachable: nobody there within ``connect_timeout``.
            BrokerRefused: wrong password, no such virtual host, missing rights, a certificate we do not trust.
            UnsupportedError: older than 3.9.
            ClosedError: opened or closed before.
        """
        self._gate.check()
        if self._begun:
            raise ClosedError(f"the backend of {self.url} was opened before; make a new one")
        self._begun = True
        try:
            await self._publishing.open()
            _check_server(self._publishing)
            ports = self._ports = _Ports(self._context())
            await ports.context.publisher.open()
        except BaseException:
            await self.aclose()
            raise
        for hook in (ports.replies.again, ports.context.journal.again, ports.control.again):
            self._consuming.on_up(hook)

    async def aclose(self) -> None:
        """Give back what is held, and close both connections. Idempotent."""
        self._gate.closed = True
        ports = self._ports
        try:
            for consumer in list(self._consumers):
                await consumer.aclose()
            if ports is not None:
                await ports.aclose()
        finally:
            await asyncio.gather(self._consuming.aclose(), self._publishing.aclose())

    async def ping(self) -> None:
        """Ask the server for a sign of life, on the channel that submits take.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        context = self._opened().context
        channel = await context.publisher.open()
        await context.publishing.call(channel, "ping", "channel.flow", True)

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        """Call ``listener`` when the publishing connection was lost, and when it is back."""
        self._publishing.on_event(listener)

    async def ensure(self, queues: Sequence[str]) -> None:
        """Create the queues of every level that do not exist.

        Raises:
            BrokerRefused: a queue is there, and of another kind.
            BrokerUnreachable, StorageFull.
        """
        context = self._opened().context
        await context.topology.queues(queues)
        for queue in queues:
            context.journal.announcements.add(queue)
        await context.journal.announcements.answered()

    def submitter(self) -> RabbitSubmitter:
        """The submitter."""
        return self._opened().submitter

    def consumer(self, queues: Sequence[str]) -> RabbitConsumer:
        """A new consumer; the second connection is opened when the first of them receives."""
        ports = self._opened()
        consumer = RabbitConsumer(ports.context, queues, ports.submitter, self._consumers.remove)
        self._consumers.append(consumer)
        return consumer

    def results(self) -> Replies:
        """Results pushed to who submitted; nothing is kept to be read."""
        return self._opened().replies

    def control(self) -> RabbitControl:
        """The control channel."""
        return self._opened().control

    def inspector(self) -> RabbitInspector:
        """The inspector."""
        return self._opened().inspector

    def __repr__(self) -> str:
        return f"RabbitBackend({self.url!r})"

    def _opened(self) -> _Ports:
        self._gate.check()
        if self._ports is None:
            raise ClosedError(f"the backend of {self.url} is not open; await open() first")
        return self._ports

    @staticmethod
    def _hurry(other: Supervisor) -> Callable[[ConnectionEvent, int], None]:
        def listener(event: ConnectionEvent, _generation: int) -> None:
            if event is ConnectionEvent.RESTORED:
                other.hurry()

        return listener

    def _context(self) -> Context:
        names, tables = Names(self._options), Tables()
        publisher = Publisher(self._publishing, tables)
        topology = Topology(self._publishing, self._options, names)
        return Context(
            options=self._options,
            names=names,
            tables=tables,
            publishing=self._publishing,
            consuming=self._consuming,
            publisher=publisher,
            side_publisher=Publisher(self._publishing, tables),
            topology=topology,
            journal=Journal(names.own("journal"), self._consuming, publisher, topology),
            name=self.name,
            url=self.url,
            address=self._address,
            gate=self._gate,
        )


class _Ports:
    """The ports of an open backend."""

    def __init__(self, context: Context) -> None:
        self.context = context
        heartbeats = Heartbeats(context.names.own("beats"), context.consuming, context.publisher, context.topology)
        self.replies = Replies(context)
        self.submitter = RabbitSubmitter(context, self.replies)
        self.control = RabbitControl(context, heartbeats)
        self.inspector = RabbitInspector(context, heartbeats)

    async def aclose(self) -> None:
        """Push nothing any more."""
        await self.submitter.aclose()
        await self.context.journal.aclose()
        await self.control.aclose()
        await self.replies.aclose()


def _check_server(supervisor: Supervisor) -> None:
    product, version = str(supervisor.server.get("product", "")), str(supervisor.server.get("version", ""))
    if product != "RabbitMQ":
        raise BrokerRefused(f"the server is {product or 'unnamed'} {version}; expected RabbitMQ")
    if supervisor.version < _OLDEST:
        raise UnsupportedError(f"the server is RabbitMQ {version}; 3.9 is the oldest that can be used")


def _capabilities(options: RabbitOptions) -> Capabilities:
    content_type = codec.JSON if options.result_serializer == "json" else codec.MSGPACK
    back: dict[str, Any] = {"redelivered": "back"}
    return Capabilities(
        {
            Capability.DURABLE: Level.NATIVE,
            Capability.CROSS_PROCESS: Level.NATIVE,
            Capability.PRIORITY: Support(Level.EMULATED, {"strict": "per message"}),
            Capability.ORDERED: Support(Level.NATIVE, back),
            Capability.DELAY: Support(Level.EMULATED, {"resolution": TICK}),
            Capability.DELIVERY_COUNT: Support(
                Level.NATIVE if options.queue_type == "quorum" else Level.EMULATED, {"kind": CountKind.AT_LEAST}
            ),
            Capability.RESULT_PUSH: Support(Level.NATIVE, {"to": "submitter", "content_type": content_type}),
            Capability.CONTROL: Level.EMULATED,
            Capability.DEAD_LETTERS: Level.EMULATED,
            Capability.INSPECT_DEPTH: Level.NATIVE,
        }
    )
