"""The backend: what the driver kit makes of a connection to NATS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tranship.driver import DriverBackend, Timing
from tranship.ports import Capability, CountKind, Level, Support
from tranship.settings import BackendConfig
from tranship_nats._broker import Broker
from tranship_nats._connection import NatsConnection
from tranship_nats._dialling import Dialler
from tranship_nats._jetstream import JetStream
from tranship_nats._options import NatsOptions
from tranship_nats._queue import NatsQueue
from tranship_nats._schedule import server_time
from tranship_nats._streams import Streams
from tranship_nats._table import NatsTable
from tranship_nats._topic import NatsTopic

__all__ = ["make_backend"]


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return the backend of ``nats://host``, tasks in JetStream; the registry calls this."""
    options = config.options_as(NatsOptions)
    return NatsDriver(config, options).backend


class NatsDriver:
    """Connects, and knows what was found at the last connection.

    Args:
        config: of the backend.
        options: of its URL.
    """

    def __init__(self, config: BackendConfig, options: NatsOptions) -> None:
        self._options = options
        self._dialler = Dialler(config.url, options)
        self._broker = Broker(options, self._dialler.place)
        self._last: Connected | None = None
        # Each server of the URL is tried; and a stream without a quorum is no reason to give the connection up.
        timing = Timing(
            connect=options.connect_timeout * len(config.url.hosts) + options.command_timeout,
            command=2 * options.command_timeout,
            keepalive=options.keepalive,
        )
        self.backend = DriverBackend(
            "nats",
            config,
            options=options,
            connect=self._connect,
            timing=timing,
            declared=self._declared,
            warnings=self._warnings,
        )
        self._broker.clock = self.backend.clock

    async def _connect(self) -> Connected:
        """Connect, and look whether JetStream is there. Streams are made when they are needed first.

        Raises:
            BrokerUnreachable: nobody there, or not ready, within ``connect_timeout``.
            BrokerRefused: wrong credentials, missing rights, no NATS server, streams that are not ours.
            UnsupportedError: no JetStream there, or not for this account.
        """
        connection = Connected(self._broker)
        connection.start(await self._dialler.dial(connection.went, connection.denied))
        try:
            # Looked for, not made: who only looks at a broker leaves nothing there.
            await connection.streams.look("work")
        except BaseException:
            await connection.aclose()
            raise
        self._last = connection
        return connection

    def _declared(self) -> Mapping[Capability, Support | Level]:
        config = self._work
        in_memory = config.get("storage", self._options.storage) == "memory"
        is_lost = in_memory and config.get("num_replicas", self._options.replicas) == 1
        return {**_DECLARED, Capability.DURABLE: Level.NONE if is_lost else Level.NATIVE} | {
            Capability.RETRY_SAFE: Support(Level.NATIVE, {"window": self._options.duplicate_window})
        }

    @property
    def _work(self) -> Mapping[str, object]:
        return {} if self._last is None else self._last.streams.found.get("work", {})

    def _warnings(self) -> list[str]:
        """What is set at the server in a way that loses or delays work."""
        if self._last is None:
            return []
        found, one_copy = list(self._last.streams.warnings), self._work.get("num_replicas", 1) == 1
        if self._work.get("storage") == "memory":
            found.append("tasks are kept in memory only: they are lost when the server ends; use storage=file")
        elif one_copy:
            found.append(
                f"one copy of each task, synced to disk every two minutes: a power cut loses the last ones; {_CURE}"
            )
        if self._last.client.cluster and one_copy:
            found.append("the server is one of a cluster, but each task is kept on one server only; set replicas=3")
        payload, size = self._last.max_payload, self._options.max_message_size
        if payload <= size:
            found.append(
                f"the server takes messages of {payload:,} bytes, max_message_size is {size:,}: larger ones are "
                "refused; raise max_payload, or pass references"
            )
        return found


class Connected(NatsConnection):
    """A connection with everything that works over it.

    Args:
        broker: what is known beyond the connection.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker.place, broker.options)
        self.broker = broker
        self.js = JetStream(self, broker.names.api)
        self.streams = Streams(self.js, broker.names, broker.options, broker.streams)
        self.queue = NatsQueue(broker, self.js, self.streams)
        self.table = NatsTable(self.js, broker.names, self.streams, broker.clock.now)
        self.topic = NatsTopic(self, broker.names)

    async def now(self) -> float | None:
        """Ask the server what time it is."""
        return await server_time(self.broker, self.js, self.streams)


_DECLARED: Final[Mapping[Capability, Support | Level]] = {
    **dict.fromkeys(
        (
            Capability.CROSS_PROCESS,
            Capability.ORDERED,
            Capability.LEASE,
            Capability.RESULTS,
            Capability.DELAY_CANCEL,
            Capability.INSPECT_DEPTH,
            Capability.INSPECT_IN_FLIGHT,
            Capability.INSPECT_OLDEST,
        ),
        Level.NATIVE,
    ),
    Capability.BROWSE: Support(Level.EMULATED, {"given_back": "hidden"}),
    Capability.PRIORITY: Level.EMULATED,
    Capability.DELAY: Support(Level.EMULATED, {"resolution": 0.01, "moved_by": "workers"}),
    Capability.DELIVERY_COUNT: Support(Level.NATIVE, {"kind": CountKind.AT_LEAST, "killed": "forgets"}),
    Capability.KEY_WINDOW: Support(Level.EMULATED, {"window": "fixed"}),
    Capability.RESULT_TTL: Support(Level.NATIVE, {"ttl": "per-store"}),
    Capability.RESULT_PUSH: Support(Level.NATIVE, {"with_submit": True}),
    Capability.CONTROL: Level.EMULATED,
    Capability.DEAD_LETTERS: Level.EMULATED,
}
_CURE: Final = "keep replicas=3 in a cluster, or set sync_interval: always (nats-server 2.10 or newer)"
