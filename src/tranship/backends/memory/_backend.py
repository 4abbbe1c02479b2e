"""The backend: what the driver kit makes of a broker in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from tranship.backends.memory._broker import MemoryBroker
from tranship.backends.memory._connection import MakeQueue, MemoryConnection, MemoryQueue
from tranship.backends.memory._faults import FailingQueue, Faults, faults_of
from tranship.checks import not_negative
from tranship.driver import DriverBackend
from tranship.ports import Capability, Level, Support
from tranship.settings import BackendConfig, BrokerURL, CommonOptions, SharedState

__all__ = ["MemoryOptions", "broker_of", "make_backend"]

DECLARED: Final[Mapping[Capability, Support | Level]] = {
    Capability.AGING: Level.NATIVE,
    Capability.DEAD_LETTERS: Level.NATIVE,
}


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(CommonOptions):
    """Options of a ``memory://`` URL."""

    aging: float = 0.0
    """Seconds of waiting that raise a task's rank by one level; 0: never."""
    fail: str = ""
    """What goes wrong on purpose, for tests: ``submit:0.1,receive:3,settle:0.05``, each with a rate, or with how many
    of the first ones fail; ``submit-unknown`` and ``settle-unknown`` are done and lose their answer."""
    seed: int = 0
    """Which ones a rate of ``fail`` hits: the same ones each time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("aging", self.aging)
        faults_of(self.fail)


def broker_of(url: BrokerURL, shared: SharedState) -> MemoryBroker:
    """Return the broker of a ``memory://`` URL, made when it is first asked for."""
    return shared(("memory", _name(url)), MemoryBroker)


def _name(url: BrokerURL) -> str:
    return url.host or url.path.strip("/")


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return a backend that keeps tasks in memory: for tests, for trying out, for work that may die with the process.

    Everything a durable broker does, it does too, but survive. ``memory://name`` is one broker for all clients and
    workers of the process, whatever their thread or loop.
    """
    options = config.options_as(MemoryOptions)
    broker = broker_of(config.url, config.shared)
    make_queue: MakeQueue = partial(MemoryQueue, lease=options.lease, aging=options.aging)
    if options.fail:
        rules = faults_of(options.fail)
        key = ("memory", _name(config.url), options.fail, options.seed)
        faults = config.shared(key, lambda: Faults(rules, options.seed))
        make_queue = partial(FailingQueue, faults, lease=options.lease, aging=options.aging)

    def connection() -> MemoryConnection:
        return MemoryConnection(broker, broker.space(options.namespace), make_queue)

    async def connect() -> MemoryConnection:
        return connection()

    return DriverBackend("memory", config, options=options, connect=connect, outline=connection, declared=DECLARED)
