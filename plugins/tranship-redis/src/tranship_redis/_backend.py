"""The backend: what the driver kit makes of a connection to Redis."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Final, cast

from tranship.checks import whole
from tranship.driver import DriverBackend, Kit, OwnPorts, Timing
from tranship.errors import BrokerUnreachable
from tranship.ports import Capability, CountKind, Level, Received, Support
from tranship.settings import BackendConfig
from tranship_redis._broker import Broker
from tranship_redis._chords import RedisChords
from tranship_redis._connect import Dialler
from tranship_redis._connection import RedisConnection
from tranship_redis._context import Context
from tranship_redis._control import RedisControl
from tranship_redis._errors import NotReady, classify
from tranship_redis._keys import Keys
from tranship_redis._options import RedisOptions, database
from tranship_redis._server import ServerInfo, warnings_of

__all__ = ["make_backend"]

log = logging.getLogger("tranship.redis")

LOOK: Final = 0.05
"""Seconds between two looks at a server that is not ready yet, while connecting."""


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return the backend of ``redis://host/0``, tasks on Celery's own lists; the registry calls this.

    Raises:
        InvalidURLError: the URL names no place that can be connected to.
        InvalidOptionError: an option, or a file that one names.
    """
    return RedisDriver(config, config.options_as(RedisOptions)).backend


class RedisDriver:
    """Connects, makes the ports, and knows what was found at the last connection.

    Args:
        config: of the backend.
        options: of its URL.
    """

    def __init__(self, config: BackendConfig, options: RedisOptions) -> None:
        self._options = options
        self._dialler = Dialler(config.url, options)
        self._broker = Broker(options, Keys(options.prefix, database(config.url, options)))
        self._address = str(uuid.uuid4())
        self._server = ServerInfo(is_resp3=options.protocol == 3)
        self._fsync: str | None = None
        self._was_connected = False
        self.backend = DriverBackend(
            "redis",
            config,
            options=options,
            connect=self._connect,
            classify=classify,
            # Both are bounded here: the one knows what it waits for, the other what progress is.
            timing=Timing(connect=None, command=None, keepalive=None),
            declared=self._declared,
            own=OwnPorts(
                consumer=EarlyConsumer,
                control=lambda kit: RedisControl(Context(kit, self._broker)),
                chords=lambda kit: RedisChords(Context(kit, self._broker)),
            ),
            warnings=lambda: warnings_of(self._server, self._fsync),
        )
        self._broker.clock = self.backend.clock

    # Connecting.

    async def _connect(self) -> RedisConnection:
        """Connect, again and again for ``connect_timeout`` while the server says that it is not ready.

        Raises:
            BrokerUnreachable: nobody there, or not ready, in time.
            BrokerRefused: wrong password, missing rights, a replica, no Redis at all.
            UnsupportedError: older than 6.2, or a cluster.
        """
        why, limit = BrokerUnreachable(self._dialler.silence), self._options.connect_timeout
        try:
            async with asyncio.timeout(limit):
                while True:
                    try:
                        return await self._attempt()
                    except NotReady as error:
                        why = error
                    await asyncio.sleep(LOOK)
        except TimeoutError as error:
            raise BrokerUnreachable(f"{why} (gave up after {limit:g} s)") from error

    async def _attempt(self) -> RedisConnection:
        connection = RedisConnection(self._dialler, self._broker, address=self._address, was_master=self._was_connected)
        await connection.open()
        self._server, self._fsync = connection.server, connection.fsync
        if not self._was_connected:
            self._warn_of_eviction()
        self._was_connected = True
        return connection

    def _warn_of_eviction(self) -> None:
        policy = self._server.maxmemory_policy
        if policy not in (None, "noeviction"):
            log.warning(
                "%s may throw away tasks or results when its memory is full: "
                "its maxmemory-policy is %s; set noeviction",
                self._dialler.place,
                policy,
            )

    def _declared(self) -> Mapping[Capability, Support | Level]:
        """Nearly everything; durable as far as the server's append-only file goes."""
        durable = Support(Level.NATIVE, {"fsync": self._fsync or "unknown"}) if self._server.aof_enabled else Level.NONE
        return {
            **dict.fromkeys(Capability, Level.NATIVE),
            Capability.KNOWS_IDS: Level.NONE,
            Capability.AGING: Level.NONE,
            Capability.DELAY: Support(Level.NATIVE, {"resolution": 0.01}),
            Capability.DELIVERY_COUNT: Support(Level.NATIVE, {"kind": CountKind.EXACT}),
            Capability.RETRY_SAFE: Support(Level.NATIVE, {"among": "checked"}),
            Capability.KEY_WINDOW: Support(Level.NATIVE, {"window": "per-task"}),
            Capability.RESULTS: Support(Level.NATIVE, {"content_type": self._options.result_type}),
            Capability.RESULT_TTL: Support(Level.NATIVE, {"ttl": "per-result"}),
            Capability.RESULT_PUSH: Support(Level.NATIVE, {"with_submit": self._server.is_resp3}),
            Capability.DURABLE: durable,
        }


class EarlyConsumer:
    """The kit's consumer, see :class:`tranship.ports.EarlyConsumer`; it takes what is not due by making it ready first.

    Args:
        kit: of the backend.
        queues: names, in no order.
    """

    hard_limit = None

    def __init__(self, kit: Kit, queues: Sequence[str]) -> None:
        consumer = kit.consumer(queues)
        self._kit, self._queues, self._consumer = kit, queues, consumer
        self.receive, self.release, self.extend = consumer.receive, consumer.release, consumer.extend
        self.settle, self.aclose = consumer.settle, consumer.aclose

    @property
    def lease(self) -> float | None:
        """How long a delivery is ours without :meth:`extend`."""
        return self._consumer.lease

    async def receive_early(self, limit: int) -> Received:
        """Return messages that are not due yet."""
        whole("limit", limit)
        made = await self._kit.run(
            "advance", lambda one: cast("RedisConnection", one).queue.advance(self._queues, limit)
        )
        return await self.receive(limit, 0) if made else Received(())
