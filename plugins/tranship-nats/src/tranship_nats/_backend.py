"""The backend: opens and closes, and hands out the ports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tranship.clocks import Clock
from tranship.errors import ClosedError, TranshipError
from tranship.guards import Gate
from tranship.ports import Capabilities, Capability, ConnectionEvent, CountKind, Level, Support
from tranship.settings import BackendConfig
from tranship_nats._api import Api
from tranship_nats._client import Connection
from tranship_nats._clock import ServerClock
from tranship_nats._consumer import NatsConsumer
from tranship_nats._context import Context
from tranship_nats._control import NatsControl
from tranship_nats._dial import Dialler
from tranship_nats._forward import Forwarder
from tranship_nats._ghosts import Ghosts
from tranship_nats._inspector import NatsInspector
from tranship_nats._levels import Consumers, pairs_of
from tranship_nats._link import Link
from tranship_nats._names import Names
from tranship_nats._options import NatsOptions
from tranship_nats._pushed import Expectations
from tranship_nats._recent import Recent
from tranship_nats._results import NatsResults
from tranship_nats._streams import Streams
from tranship_nats._submitter import NatsSubmitter

__all__ = ["NatsBackend"]

log = logging.getLogger("tranship.nats")


class NatsBackend:
    """Tasks in JetStream; see :class:`tranship.ports.Backend`. One connection carries everything."""

    name = "nats"

    def __init__(self, config: BackendConfig) -> None:
        self._url = config.url
        self._options = config.options_as(NatsOptions)
        self._names = Names(self._options.namespace, self._options.domain)
        self._dialler = Dialler(config.url, self._options)
        self._gate = Gate(self.url)
        self._clock = Clock()
        self._link: Link | None = None
        self._ports: _Ports | None = None
        self._consumers: list[NatsConsumer] = []

    @property
    def url(self) -> str:
        """The URL as it was given, without secrets."""
        return str(self._url)

    @property
    def capabilities(self) -> Capabilities:
        """Nearly everything; durable as far as the stream of the tasks is."""
        return _capabilities(self._options, self._ports)

    @property
    def address(self) -> str | None:
        """The subject on which results come here."""
        return None if self._ports is None else self._ports.context.expected.address

    @property
    def warnings(self) -> Sequence[str]:
        """What is set at the server in a way that loses or delays work."""
        if self._ports is None:
            return []
        return [*self._ports.context.streams.warnings, *_warnings(self._options, self._ports)]

    @property
    def native(self) -> Connection:
        """nats-py's client: ``await backend.native.jetstream().account_info()``. It does not survive a reconnect.

        Raises:
            BrokerUnreachable: there is no connection now.
        """
        return self._opened().context.link.connection

    async def open(self) -> None:
        """Connect, and look whether JetStream is there. Streams are made when they are needed first.

        Raises:
            BrokerUnreachable: nobody there, or not ready, within ``connect_timeout``.
            BrokerRefused: wrong credentials, missing rights, no NATS server, streams that are not ours.
            UnsupportedError: no JetStream there, or not for this account.
            ClosedError: opened or closed before.
        """
        self._gate.check()
        if self._link is not None:
            raise ClosedError(f"the backend of {self.url} was opened before; make a new one")
        link = self._link = Link(self._dialler, self._options)
        try:
            await link.open()
            self._ports = await self._make_ports(link)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Give back what is held, and close the connection. Idempotent."""
        self._gate.closed = True
        try:
            for consumer in list(self._consumers):
                await _given_back(consumer)
        finally:
            await self._close_link()

    async def _close_link(self) -> None:
        ports = self._ports
        if ports is not None:
            await ports.aclose()
        if self._link is not None:
            await self._link.aclose()
        if ports is not None:
            await ports.context.streams.aclose()

    async def ping(self) -> None:
        """Ask the server about the stream of the tasks.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        await self._opened().context.streams.look("work")

    @property
    def clock(self) -> Clock:
        """The server's clock."""
        return self._clock

    async def read_clock(self) -> None:
        """Ask the server what time it is.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        await self._opened().context.clock.read()

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        """Call ``listener`` when the connection was lost, and when it is back."""
        link = self._link
        if link is None:
            raise ClosedError(f"the backend of {self.url} is not open; await open() first")
        link.hooks.on_event(listener)

    async def ensure(self, queues: Sequence[str]) -> None:
        """Make the stream of the tasks, and the consumers of ``queues``, where they are missing.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        context = self._opened().context
        await context.consumers.ensure(pairs_of(context.names, queues))

    def submitter(self) -> NatsSubmitter:
        """The submitter."""
        return self._opened().submitter

    def consumer(self, queues: Sequence[str]) -> NatsConsumer:
        """A new consumer."""
        ports = self._opened()
        consumer = NatsConsumer(ports.context, queues, ports.forwarder.start, self._consumers.remove)
        self._consumers.append(consumer)
        return consumer

    def results(self) -> NatsResults:
        """The result store."""
        return self._opened().results

    def control(self) -> NatsControl:
        """The control channel."""
        return self._opened().control

    def inspector(self) -> NatsInspector:
        """The inspector."""
        return self._opened().inspector

    def __repr__(self) -> str:
        return f"NatsBackend({self.url!r})"

    def _opened(self) -> _Ports:
        self._gate.check()
        if self._ports is None:
            raise ClosedError(f"the backend of {self.url} is not open; await open() first")
        return self._ports

    async def _make_ports(self, link: Link) -> _Ports:
        api = Api(link, self._names.api)
        streams = Streams(api, self._names, self._options)
        expected = Expectations(link, self._names)
        # Looked for, not made: who only looks at a broker leaves nothing there.
        await streams.look("work")
        expected.start()

        async def again() -> None:
            streams.doubt_all()
            expected.start()

        link.hooks.on_up(again)
        clock = ServerClock(api, self._names, streams, self._clock)
        context = Context(
            options=self._options,
            names=self._names,
            link=link,
            api=api,
            streams=streams,
            expected=expected,
            consumers=Consumers(api, streams, self._options),
            ghosts=Ghosts(api, link, self._clock),
            recent=Recent(),
            max_payload=link.max_payload,
            clock=clock,
            gate=self._gate,
        )
        return _Ports(context)


async def _given_back(consumer: NatsConsumer) -> None:
    try:
        await consumer.aclose()
    except TranshipError as error:
        log.warning("what a consumer held comes back when its lease ends: %s", error)


class _Ports:
    """The ports of an open backend."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.submitter = NatsSubmitter(context)
        self.results = NatsResults(context)
        self.control = NatsControl(context, self.results)
        self.inspector = NatsInspector(context, self.results)
        self.forwarder = Forwarder(context)
        self.cluster: bool = bool(context.link.connection.cluster)

    async def aclose(self) -> None:
        """Push and forward nothing any more."""
        self.control.close()
        self.results.close()
        await self.forwarder.aclose()
        await self.context.ghosts.aclose()


def _capabilities(options: NatsOptions, ports: _Ports | None) -> Capabilities:
    supports: dict[Capability, Support | Level] = dict.fromkeys(Capability, Level.NATIVE)
    supports[Capability.BROWSE] = Level.NONE
    supports |= {
        Capability.AGING: Level.NONE,
        Capability.KNOWS_IDS: Level.NONE,
        Capability.FUSED_SETTLE: Level.NONE,
        Capability.PRIORITY: Level.EMULATED,
        Capability.DEAD_LETTERS: Level.EMULATED,
        Capability.CONTROL: Level.EMULATED,
    }
    emulated: dict[Capability, Mapping[str, Any]] = {
        Capability.DELAY: {"resolution": 0.01, "moved_by": "workers"},
        Capability.KEY_WINDOW: {"window": "fixed"},
    }
    native: dict[Capability, Mapping[str, Any]] = {
        Capability.DELIVERY_COUNT: {"kind": CountKind.AT_LEAST, "killed": "forgets"},
        Capability.RETRY_SAFE: {"window": options.recognised},
        Capability.RESULT_PUSH: {"with_submit": True},
        Capability.RESULT_TTL: {"ttl": "per-store"},
    }
    supports.update({capability: Support(Level.EMULATED, found) for capability, found in emulated.items()})
    supports.update({capability: Support(Level.NATIVE, found) for capability, found in native.items()})
    config = {} if ports is None else ports.context.streams.found.get("work", {})
    if config.get("storage", options.storage) == "memory" and config.get("num_replicas", options.replicas) == 1:
        supports[Capability.DURABLE] = Level.NONE
    return Capabilities(supports)


def _warnings(options: NatsOptions, ports: _Ports) -> list[str]:
    config = ports.context.streams.found.get("work", {})
    found = []
    if config.get("storage") == "memory":
        found.append("tasks are kept in memory only: they are lost when the server ends; use storage=file")
    elif config.get("num_replicas", 1) == 1:
        found.append(
            f"one copy of each task, synced to disk every two minutes: a power cut loses the last ones; {_CURE}"
        )
    if ports.cluster and config.get("num_replicas", 1) == 1:
        found.append("the server is one of a cluster, but each task is kept on one server only; set replicas=3")
    if ports.context.max_payload <= options.max_message_size:
        found.append(
            f"the server takes messages of {ports.context.max_payload:,} bytes, max_message_size is "
            f"{options.max_message_size:,}: larger ones are refused; raise max_payload, or pass references"
        )
    return found


_CURE: Final = "keep replicas=3 in a cluster, or set sync_interval: always (nats-server 2.10 or newer)"
