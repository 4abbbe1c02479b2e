"""The backend: what the driver kit makes of one SQLite file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tranship.backends.sqlite._connection import SqliteConnection
from tranship.backends.sqlite._file import ForkGate, Location, locate
from tranship.backends.sqlite._options import SqliteOptions
from tranship.driver import DriverBackend, Timing
from tranship.ports import Capability, Level, Support
from tranship.settings import BackendConfig

__all__ = ["make_backend"]


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return a backend that keeps tasks in one file, shared by the processes of one machine."""
    options = config.options_as(SqliteOptions)
    forks = config.shared((make_backend, ForkGate), ForkGate)

    async def connect() -> SqliteConnection:
        location = locate(config.url, allow_network_fs=options.allow_network_fs)
        connection = SqliteConnection(location, options, forks)
        try:
            await connection.open()
        except BaseException:
            await connection.aclose()
            raise
        return connection

    def outline() -> SqliteConnection:
        return SqliteConnection(Location(Path(config.url.path)), options, forks)

    # Nothing has a time limit: work for the disk ends by itself, or with the busy_timeout of the lock.
    timing = Timing(connect=None, command=None, keepalive=None)
    return DriverBackend(
        "sqlite", config, options=options, connect=connect, outline=outline, declared=_declared(options), timing=timing
    )


def _declared(options: SqliteOptions) -> dict[Capability, Support | Level]:
    properties: dict[Capability, dict[str, Any]] = {
        Capability.DURABLE: {"survives": options.durability},
        Capability.CROSS_PROCESS: {},
        Capability.AGING: {"seconds": options.aging},
        Capability.DEAD_LETTERS: {},
    }
    return {capability: Support(Level.NATIVE, found) for capability, found in properties.items()}
