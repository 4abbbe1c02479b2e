"""The backend: what the driver kit makes of a broker in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tranship.backends.memory._broker import MemoryBroker
from tranship.backends.memory._connection import MemoryConnection
from tranship.checks import not_negative
from tranship.driver import DriverBackend
from tranship.ports import Capability, Level, Support
from tranship.settings import BackendConfig, CommonOptions

__all__ = ["MemoryOptions", "make_backend"]

DECLARED: Final[Mapping[Capability, Support | Level]] = {
    Capability.AGING: Level.NATIVE,
    Capability.DEAD_LETTERS: Level.NATIVE,
}


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(CommonOptions):
    """Options of a ``memory://`` URL."""

    aging: float = 0.0
    """Seconds of waiting that raise a task's rank by one level; 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("aging", self.aging)


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return a backend that keeps tasks in memory: for tests, for trying out, for work that may die with the process.

    Everything a durable broker does, it does too, but survive. ``memory://name`` is one broker for all clients and
    workers of the process, whatever their thread or loop.
    """
    options = config.options_as(MemoryOptions)
    broker = config.shared(("memory", config.url.host or config.url.path.strip("/")), MemoryBroker)

    def connection() -> MemoryConnection:
        return MemoryConnection(broker, broker.space(options.namespace), lease=options.lease, aging=options.aging)

    async def connect() -> MemoryConnection:
        return connection()

    return DriverBackend("memory", config, options=options, connect=connect, outline=connection, declared=DECLARED)
