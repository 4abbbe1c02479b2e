"""The backend: opens and closes, and hands out the ports."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.backends.sqlite._control import SqliteControl
from tranship.backends.sqlite._forks import ForkGate
from tranship.backends.sqlite._hub import Hub
from tranship.backends.sqlite._location import locate
from tranship.backends.sqlite._options import SqliteOptions
from tranship.backends.sqlite._results import SqliteResults
from tranship.backends.sqlite._submitter import SqliteSubmitter
from tranship.backends.sqlite._transaction import Kind, Transaction, each
from tranship.backends.sqlite._watch import Watch
from tranship.errors import ClosedError, TranshipError
from tranship.ports import Capabilities, Capability, ConnectionEvent, CountKind, Level, Support
from tranship.settings import BackendConfig

if TYPE_CHECKING:
    # Loaded when they are asked for: a client that submits and waits needs neither.
    from tranship.backends.sqlite._consumer import SqliteConsumer
    from tranship.backends.sqlite._inspector import SqliteInspector

__all__ = ["SqliteBackend"]


class SqliteBackend:
    """Tasks in one SQLite file; see :class:`tranship.ports.Backend`."""

    name = "sqlite"

    def __init__(self, config: BackendConfig) -> None:
        self._url = config.url
        self._options = config.options_as(SqliteOptions)
        self._forks = config.shared((SqliteBackend, ForkGate), ForkGate)
        self._hub: Hub | None = None
        self._closed = False
        self._consumers: list[SqliteConsumer] = []
        self._listeners: list[Callable[[ConnectionEvent, int], None]] = []

    @property
    def url(self) -> str:
        """The URL as it was given."""
        return str(self._url)

    @property
    def capabilities(self) -> Capabilities:
        """Everything is native; aging is on when the option of that name is."""
        return _capabilities(self._options)

    @property
    def address(self) -> str | None:
        """The bell's name; None where pipes are missing (Windows), then results are looked for."""
        return self._hub.address if self._hub else None

    @property
    def warnings(self) -> Sequence[str]:
        """There is no server."""
        return ()

    @property
    def native(self) -> Any:
        """Facts for diagnostics: path, SQLite's version, durability. The connection itself belongs to a thread."""
        return {
            "path": None if self._hub is None else str(self._hub.location.path),
            "sqlite_version": sqlite3.sqlite_version,
            "durability": self._options.durability,
        }

    async def open(self) -> None:
        """Open the file, creating it if need be."""
        if self._closed or self._hub is not None:
            raise ClosedError(f"the backend of {self._url} was opened before; make a new one")
        location = locate(self._url, allow_network_fs=self._options.allow_network_fs)
        hub = self._hub = Hub(location, self._options, self._forks)
        self._watch = Watch(hub, self._gone)
        self._results = SqliteResults(hub, self._watch)
        self._submitter = SqliteSubmitter(hub, self._results)
        self._control = SqliteControl(hub, self._watch)
        try:
            await hub.open()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Give back what is held, and close. Idempotent."""
        self._closed = True
        hub = self._hub
        if hub is None:
            return
        for consumer in list(self._consumers):
            await consumer.aclose()
        self._watch.stop()
        self._results.close()
        self._control.close()
        await hub.aclose()

    async def ping(self) -> None:
        """Commit something small."""
        await self._opened().writer.call(_PING, None)

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        """Call ``listener`` when the file has been deleted or replaced."""
        self._listeners.append(listener)

    async def ensure(self, queues: Sequence[str]) -> None:  # noqa: ARG002 - a queue is a column's value
        """Queues need nothing."""
        self._opened()

    def submitter(self) -> SqliteSubmitter:
        """The submitter."""
        self._opened()
        return self._submitter

    def consumer(self, queues: Sequence[str]) -> SqliteConsumer:
        """A new consumer."""
        from tranship.backends.sqlite._consumer import SqliteConsumer

        consumer = SqliteConsumer(self._opened(), self._watch, queues, self._consumers.remove)
        self._consumers.append(consumer)
        return consumer

    def results(self) -> SqliteResults:
        """The result store."""
        self._opened()
        return self._results

    def control(self) -> SqliteControl:
        """The control channel."""
        self._opened()
        return self._control

    def inspector(self) -> SqliteInspector:
        """The inspector."""
        from tranship.backends.sqlite._inspector import SqliteInspector

        return SqliteInspector(self._opened())

    def _opened(self) -> Hub:
        if self._hub is None or self._closed:
            raise ClosedError(f"the backend of {self._url} is not open; open it, or make a new one after closing")
        self._hub.check()
        return self._hub

    def _gone(self, error: TranshipError) -> None:
        assert self._hub is not None
        self._hub.fail(error)
        for listener in self._listeners:
            listener(ConnectionEvent.LOST, 0)


def _capabilities(options: SqliteOptions) -> Capabilities:
    supports: dict[Capability, Support | Level] = dict.fromkeys(Capability, Level.NATIVE)
    supports[Capability.BROWSE] = Level.NONE
    properties: dict[Capability, dict[str, Any]] = {
        Capability.DURABLE: {"survives": options.durability},
        Capability.AGING: {"seconds": options.aging},
        Capability.DELAY: {"resolution": 0.01, "cancellable": True, "clock": "host"},
        Capability.DELIVERY_COUNT: {"kind": CountKind.EXACT},
        Capability.KEY_WINDOW: {"window": "per-task"},
        Capability.RESULT_TTL: {"ttl": "per-result"},
    }
    supports.update({capability: Support(Level.NATIVE, found) for capability, found in properties.items()})
    return Capabilities(supports)


def _ping(tx: Transaction, _: None) -> None:
    tx.run("INSERT OR REPLACE INTO meta(key, value) VALUES('ping', ?)", tx.now)


_PING: Final = Kind("ping", each(_ping))
