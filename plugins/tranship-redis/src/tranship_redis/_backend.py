"""The backend: opens and closes, and hands out the ports."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tranship.clocks import Clock
from tranship.errors import ClosedError, TranshipError
from tranship.ports import Capabilities, Capability, ConnectionEvent, CountKind, Level, Support
from tranship.protocol import number_of
from tranship.settings import BackendConfig
from tranship_redis._connect import Dialler
from tranship_redis._consumer import RedisConsumer
from tranship_redis._context import Context, WorkerGate
from tranship_redis._control import RedisControl
from tranship_redis._inspector import RedisInspector
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels
from tranship_redis._link import Link
from tranship_redis._options import RedisOptions, database
from tranship_redis._results import RedisResults
from tranship_redis._server import ServerInfo, warnings_of
from tranship_redis._submitter import RedisSubmitter
from tranship_redis._subscriptions import Subscriptions
from tranship_redis._sweeper import Sweeper
from tranship_redis._worklink import WorkLink

__all__ = ["RedisBackend"]

log = logging.getLogger("tranship.redis")


class RedisBackend:
    """Tasks in Redis, on Celery's own lists; see :class:`tranship.ports.Backend`.

    Connections: one for submits, results, control and inspection; one more with the first consumer; on RESP2
    one more for subscriptions.
    """

    name = "redis"

    def __init__(self, config: BackendConfig) -> None:
        self._url = config.url
        self._options = config.options_as(RedisOptions)
        self._gate = WorkerGate(self.url)
        self._clock = Clock()
        self._is_resp3 = self._options.protocol == 3
        self._links: list[Link] = []
        self._main = self._link()
        self._work = WorkLink(self._link, self._gate)
        self._address = str(uuid.uuid4())
        self._fsync: str | None = None
        self._ports: _Ports | None = None
        self._begun = False
        self._consumers: list[RedisConsumer] = []

    @property
    def url(self) -> str:
        """The URL as it was given, without secrets."""
        return str(self._url)

    @property
    def capabilities(self) -> Capabilities:
        """Nearly everything; durable as far as the server's append-only file goes."""
        return _capabilities(self._options, self._main.server, self._fsync)

    @property
    def address(self) -> str:
        """A name of our own. Nobody needs it here, but Celery always sends one."""
        return self._address

    @property
    def warnings(self) -> Sequence[str]:
        """What is set at the server in a way that loses or delays work."""
        return warnings_of(self._main.server, self._fsync)

    @property
    def native(self) -> Link:
        """The main connection: ``await backend.native.call("TTL", key)``."""
        return self._main

    async def open(self) -> None:
        """Connect, and look at the server.

        Raises:
            BrokerUnreachable: nobody there, or not ready, within ``connect_timeout``.
            BrokerRefused: wrong password, missing rights, a replica, no Redis at all.
            UnsupportedError: older than 6.2, or a cluster.
            ClosedError: opened or closed before.
        """
        self._gate.check()
        if self._begun:
            raise ClosedError(f"the backend of {self.url} was opened before; make a new one")
        self._begun = True
        self._main.on_up(self._set_up)
        try:
            await self._main.open()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Give back what is held, and close every connection. Idempotent."""
        self._gate.closed = True
        try:
            for consumer in list(self._consumers):
                await _given_back(consumer)
        finally:
            await self._close_links()

    async def _close_links(self) -> None:
        ports = self._ports
        if ports is not None:
            ports.close()
        # At once: the first that is interrupted must not leave the others open.
        await asyncio.gather(self._work.aclose(), *(link.aclose() for link in self._links))
        if ports is not None:
            ports.submitter.close()  # last: it knows of what is under way until the link has gone

    async def ping(self) -> None:
        """Ask the server for a sign of life, on the way a submit takes.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        await self._opened().context.main.call(b"PING")

    @property
    def clock(self) -> Clock:
        """The server's clock."""
        return self._clock

    async def read_clock(self) -> None:
        """Ask the server what time it is.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        asked = time.time()
        found = [number_of(part) for part in await self._opened().context.main.call(b"TIME")]
        if len(found) == 2 and found[0] is not None and found[1] is not None:
            self._clock.read(asked, found[0] + found[1] / 1e6)

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        """Call ``listener`` when the main connection was lost, and when it is back."""
        self._main.on_event(listener)

    async def ensure(self, queues: Sequence[str]) -> None:
        """Make the queues known to :meth:`tranship.ports.Inspector.queues`; lists need no creating.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        context = self._opened().context
        if queues:
            await context.main.call(b"SADD", context.keys.queues, *queues)

    def submitter(self) -> RedisSubmitter:
        """The submitter."""
        return self._opened().submitter

    def consumer(self, queues: Sequence[str]) -> RedisConsumer:
        """A new consumer; the second connection is opened when the first of them receives."""
        consumer = RedisConsumer(self._opened().context, queues, self._consumers.remove)
        self._consumers.append(consumer)
        return consumer

    def results(self) -> RedisResults:
        """The result store."""
        return self._opened().results

    def control(self) -> RedisControl:
        """The control channel."""
        return self._opened().control

    def inspector(self) -> RedisInspector:
        """The inspector."""
        return self._opened().inspector

    def __repr__(self) -> str:
        return f"RedisBackend({self.url!r})"

    def _link(self, *, pubsub: bool = False) -> Link:
        options = self._options if self._is_resp3 else replace(self._options, protocol=2)
        link = Link(Dialler(self._url, options), options, pubsub=pubsub)
        link.on_event(self._hurry)
        self._links = [*(one for one in self._links if not one.closed), link]
        return link

    def _hurry(self, event: ConnectionEvent, _generation: int) -> None:
        if event is ConnectionEvent.RESTORED:
            for link in self._links:
                link.hurry()

    def _opened(self) -> _Ports:
        self._gate.check()
        if self._ports is None:
            raise ClosedError(f"the backend of {self.url} is not open; await open() first")
        return self._ports

    async def _set_up(self) -> None:
        """Make the ports once it is known what the server can do, before anybody can use the connection."""
        if self._ports is not None:
            return
        self._is_resp3 = self._main.server.is_resp3
        self._warn_of_eviction()
        await self._read_fsync()
        pubsub = self._main if self._is_resp3 else self._link(pubsub=True)
        self._ports = _Ports(self._context(pubsub))
        if pubsub is not self._main:
            await pubsub.open()

    def _context(self, pubsub: Link) -> Context:
        keys = Keys(self._options.prefix, database(self._url, self._options))
        context = Context(
            options=self._options,
            keys=keys,
            levels=Levels(keys, self._options.normal_step),
            main=self._main,
            pubsub=pubsub,
            work=lambda: self._work(lambda link: Sweeper(context, link)),
            subscriptions=Subscriptions(pubsub, keys),
            name=self.name,
            url=self.url,
            gate=self._gate,
            clock=self._clock,
        )
        return context

    def _warn_of_eviction(self) -> None:
        policy = self._main.server.maxmemory_policy
        if policy not in (None, "noeviction"):
            log.warning(
                "%s may throw away tasks or results when its memory is full: "
                "its maxmemory-policy is %s; set noeviction",
                self._main.place,
                policy,
            )

    async def _read_fsync(self) -> None:
        if not self._main.server.aof_enabled:
            return
        try:
            found = await self._main.call(b"CONFIG", b"GET", b"appendfsync")
        except TranshipError:
            return  # a managed server keeps its configuration to itself
        values = list(found.values()) if isinstance(found, dict) else found[1::2]
        self._fsync = values[0].decode() if values else None


async def _given_back(consumer: RedisConsumer) -> None:
    try:
        await consumer.aclose()
    except TranshipError as error:
        log.warning("what a consumer held comes back when its lease ends: %s", error)


class _Ports:
    """The ports of an open backend."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.submitter = RedisSubmitter(context)
        self.results = RedisResults(context)
        self.control = RedisControl(context)
        self.inspector = RedisInspector(context, self.results)

    def close(self) -> None:
        """Push nothing any more."""
        self.control.close()
        self.results.close()


def _capabilities(options: RedisOptions, server: ServerInfo, fsync: str | None) -> Capabilities:
    supports: dict[Capability, Support | Level] = dict.fromkeys(Capability, Level.NATIVE)
    supports |= {Capability.KNOWS_IDS: Level.NONE, Capability.AGING: Level.NONE}
    properties: dict[Capability, Mapping[str, Any]] = {
        Capability.DELAY: {"resolution": 0.01},
        Capability.DELIVERY_COUNT: {"kind": CountKind.EXACT},
        Capability.RETRY_SAFE: {"among": "checked"},
        Capability.KEY_WINDOW: {"window": "per-task"},
        Capability.RESULTS: {"content_type": options.result_type},
        Capability.RESULT_TTL: {"ttl": "per-result"},
        Capability.RESULT_PUSH: {"with_submit": server.is_resp3},
    }
    supports.update({capability: Support(Level.NATIVE, found) for capability, found in properties.items()})
    durable = Support(Level.NATIVE, {"fsync": fsync or "unknown"}) if server.aof_enabled else Level.NONE
    return Capabilities({**supports, Capability.DURABLE: durable})
