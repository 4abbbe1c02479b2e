"""The backend: what the driver kit makes of a connection to Redis."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from typing import Final, cast

from tranship.driver import DriverBackend, Kit, OwnPorts, Timing
from tranship.errors import BrokerUnreachable
from tranship.ports import Capability, CountKind, Level, Support
from tranship.settings import BackendConfig
from tranship_redis._broker import Broker
from tranship_redis._connect import Dialler
from tranship_redis._connection import RedisConnection
from tranship_redis._consumer import RedisConsumer
from tranship_redis._context import Context
from tranship_redis._control import RedisControl
from tranship_redis._errors import NotReady
from tranship_redis._inspector import inspector
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels
from tranship_redis._link import Link, Pushes
from tranship_redis._options import RedisOptions, database
from tranship_redis._server import ServerInfo, warnings_of
from tranship_redis._sweeper import Sweeper
from tranship_redis._wake import Wake

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
        self._keys = Keys(options.prefix, database(config.url, options))
        self._pushes: Pushes = {}
        self._address = str(uuid.uuid4())
        self._server = ServerInfo(is_resp3=options.protocol == 3)
        self._fsync: str | None = None
        self._was_connected = self._works = False
        self.backend = DriverBackend(
            "redis",
            config,
            options=options,
            connect=self._connect,
            # Both are bounded here: the one knows what it waits for, the other what progress is.
            timing=Timing(connect=None, command=None, keepalive=None),
            declared=self._declared,
            own=OwnPorts(
                consumer=lambda _, queues: RedisConsumer(self.context, queues),
                control=self._control,
                inspector=lambda _: inspector(self.context),
            ),
            warnings=lambda: warnings_of(self._server, self._fsync),
        )
        self._broker = Broker(options, self._keys, self.backend.clock)

    # The ports.

    def _control(self, kit: Kit) -> RedisControl:
        self.context = self._context_of(kit)
        return RedisControl(self.context)

    def _context_of(self, kit: Kit) -> Context:
        place = self._dialler.place
        pubsub = Link(kit, place, self._pushes, lambda one: one.pubsub)
        work = Link(kit, place, self._pushes, lambda one: one.work)
        wake = Wake(work, wanted=self._options.tracking == "auto")

        async def opened() -> Link:
            self._works = True
            await kit.run("open", lambda one: cast("RedisConnection", one).open_work())
            wake.track()
            return work

        return Context(
            kit=kit,
            options=self._options,
            keys=self._keys,
            levels=Levels(self._keys, self._options.normal_step),
            main=Link(kit, place, self._pushes, lambda one: one.main),
            pubsub=pubsub,
            work=opened,
            wake=wake,
            name=kit.name,
            url=kit.url,
        )

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
        connection = RedisConnection(
            self._dialler,
            self._broker,
            self._pushes,
            address=self._address,
            was_master=self._was_connected,
            sweeper=lambda channel: Sweeper(self.context, channel),
        )
        await connection.open(work=self._works)
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
