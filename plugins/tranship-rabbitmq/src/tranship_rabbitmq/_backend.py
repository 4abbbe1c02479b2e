"""The backend: what the driver kit makes of a connection to RabbitMQ."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tranship import codec
from tranship.driver import DriverBackend, Kit, NoQueue, OwnPorts, Timing
from tranship.errors import BrokerRefused, UnsupportedError
from tranship.ports import Capability, ConnectionEvent, CountKind, Level, Support
from tranship.settings import BackendConfig
from tranship_rabbitmq._consumer import RabbitConsumer
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._control import RabbitControl
from tranship_rabbitmq._delays import TICK
from tranship_rabbitmq._inspector import RabbitInspector
from tranship_rabbitmq._log import RabbitLog
from tranship_rabbitmq._names import Names
from tranship_rabbitmq._options import RabbitOptions, places
from tranship_rabbitmq._publisher import Publisher
from tranship_rabbitmq._queue_names import QueueNames
from tranship_rabbitmq._replies import Replies
from tranship_rabbitmq._submitter import RabbitSubmitter
from tranship_rabbitmq._supervisor import Supervisor
from tranship_rabbitmq._tables import Tables
from tranship_rabbitmq._topic import RabbitTopic
from tranship_rabbitmq._topology import Topology
from tranship_rabbitmq._warnings import warnings_of

if TYPE_CHECKING:
    from tranship_rabbitmq.amqp.native import NativeConnection

__all__ = ["make_backend"]

_OLDEST = (3, 9)
"""Streams came with it, which cancels and names of queues are kept in."""


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return the backend of ``amqp://host``, tasks on Celery's own queues; the registry calls this."""
    return RabbitDriver(config, config.options_as(RabbitOptions)).backend


class RabbitDriver:
    """Connects, and makes the ports that RabbitMQ serves in its own way.

    Args:
        config: of the backend.
        options: of its URL.
    """

    def __init__(self, config: BackendConfig, options: RabbitOptions) -> None:
        self._url, self._options = config.url, options
        self._places = places(config.url, options)
        self._ports: _Ports | None = None
        # Each server of the URL is tried; a server that is blocked is no reason to give the connection up.
        timing = Timing(
            connect=options.connect_timeout * len(config.url.hosts) + options.command_timeout,
            command=2 * options.command_timeout,
            keepalive=None,
            close=10.0,
        )
        self.backend = DriverBackend(
            "rabbitmq",
            config,
            options=options,
            connect=self._connect,
            timing=timing,
            declared=_declared(options),
            warnings=self._warnings,
            own=OwnPorts(
                submitter=lambda kit: self._made(kit).submitter,
                consumer=lambda kit, queues: self._made(kit).consumer(queues),
                results=lambda kit: self._made(kit).replies,
                control=lambda kit: self._made(kit).control,
                inspector=lambda kit: self._made(kit).inspector,
            ),
        )

    def _made(self, kit: Kit) -> _Ports:
        if self._ports is None:
            self._ports = _Ports(self._context(kit), kit)
        return self._ports

    async def _connect(self) -> RabbitConnection:
        """Connect, and look at the server.

        Raises:
            BrokerUnreachable: nobody there within ``connect_timeout``.
            BrokerRefused: wrong password, no such virtual host, missing rights, a certificate we do not trust.
            UnsupportedError: older than 3.9.
        """
        assert self._ports is not None
        connection = RabbitConnection(self._ports)
        await connection.open()
        return connection

    def _warnings(self) -> Sequence[str]:
        """What is set at the server in a way that loses or delays work."""
        assert self._ports is not None
        context = self._ports.context
        return warnings_of(self._options, context.publishing, context.topology.odd)

    def _context(self, kit: Kit) -> Context:
        names, tables = Names(self._options), Tables()
        publishing = Supervisor(self._places, self._options, "publish")
        consuming = Supervisor(self._places, self._options, "consume")
        publisher = Publisher(publishing, tables)
        topology = Topology(publishing, self._options, names)
        entries = RabbitLog(names, consuming, publisher, topology)
        return Context(
            options=self._options,
            names=names,
            tables=tables,
            publishing=publishing,
            consuming=consuming,
            publisher=publisher,
            side_publisher=Publisher(publishing, tables),
            topology=topology,
            log=entries,
            queue_names=QueueNames(entries),
            name=kit.name,
            url=kit.url,
            address=str(uuid.uuid4()),
            gate=kit.gate,
        )


class RabbitQueue(NoQueue):
    """The queues: for now they are only made here, and served by ports of their own.

    Args:
        context: of the backend.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def ensure(self, queues: Sequence[str]) -> None:
        """Create the queues of every level that do not exist."""
        await self._context.topology.queues(queues)
        for queue in queues:
            self._context.queue_names.add(queue)
        await self._context.queue_names.answered()


class RabbitConnection:
    """Both connections of a backend: one that publishes; one more, with the first who wants to receive anything, that
    consumes. See :class:`tranship.driver.Connection`.

    Args:
        ports: of the backend.
    """

    table = None

    def __init__(self, ports: _Ports) -> None:
        self._ports, self._context = ports, ports.context
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.queue, self.address = RabbitQueue(self._context), self._context.address
        self.topic, self.log = RabbitTopic(self._context, self._lose), self._context.log

    async def open(self) -> None:
        """Connect for the first time, or wait until what was lost is back."""
        context, ports = self._context, self._ports
        if context.publishing.generation == 0:
            await context.publishing.open()
            _check_server(context.publishing)
            await context.publisher.open()
            context.consuming.on_up(ports.replies.again)
        # Why there is none is told to who asks meanwhile.
        _ = context.publishing.wire
        context.publishing.on_event(self._heard)

    def _heard(self, event: ConnectionEvent, _generation: int) -> None:
        if event is ConnectionEvent.LOST:
            self._context.consuming.hurry()
            self._lose()

    def _lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    @property
    def native(self) -> NativeConnection:
        """The publishing connection as aio-pika has it: ``channel = await backend.native.channel()``."""
        return self._context.publishing.native

    async def ping(self) -> None:
        """Ask the server for a sign of life, on the channel that submits take."""
        channel = await self._context.publisher.open()
        await self._context.publishing.call(channel, "ping", "channel.flow", True)

    def abort(self) -> None:
        """Give the publishing connection up."""
        self._lose()

    async def aclose(self) -> None:
        """Both come back by themselves; the last port that is closed closes them."""
        self.topic.close()
        if (closing := self._ports.inspector.closing) is not None:
            await asyncio.wait({closing})
            # It may have been closed before it was open.
            await self._context.publishing.aclose()


class _Ports:
    """The ports of a backend."""

    def __init__(self, context: Context, kit: Kit) -> None:
        self.context = context
        self.replies = Replies(context)
        self.submitter = RabbitSubmitter(context, self.replies)
        self.control = RabbitControl(context, kit)
        self.inspector = _LastPort(context, kit)

    def consumer(self, queues: Sequence[str]) -> RabbitConsumer:
        """A new consumer; the second connection is opened when the first of them receives."""
        return RabbitConsumer(self.context, queues, self.submitter, lambda _consumer: None)


class _LastPort(RabbitInspector):
    """The port that is closed last: both connections are closed with it."""

    closing: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Close everything that is no port. Cancelling this only stops waiting for it."""
        self.closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.wait({self.closing})

    async def _close(self) -> None:
        try:
            await self._ctx.queue_names.aclose()
        finally:
            await asyncio.gather(self._ctx.consuming.aclose(), self._ctx.publishing.aclose())


def _check_server(supervisor: Supervisor) -> None:
    product, version = str(supervisor.server.get("product", "")), str(supervisor.server.get("version", ""))
    if product != "RabbitMQ":
        raise BrokerRefused(f"the server is {product or 'unnamed'} {version}; expected RabbitMQ")
    if supervisor.version < _OLDEST:
        raise UnsupportedError(f"the server is RabbitMQ {version}; 3.9 is the oldest that can be used")


def _declared(options: RabbitOptions) -> Mapping[Capability, Support | Level]:
    """What RabbitMQ can do: all but keep results, dedup keys and leases."""
    content_type = codec.JSON if options.result_serializer == "json" else codec.MSGPACK
    back: dict[str, Any] = {"redelivered": "back"}
    return {
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
