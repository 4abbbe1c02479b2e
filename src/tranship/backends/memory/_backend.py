"""The backend itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tranship.backends.memory._broker import MemoryBroker
from tranship.backends.memory._inspector import MemoryInspector
from tranship.backends.memory._ports import (
    Gate,
    MemoryConsumer,
    MemoryControl,
    MemoryResultStore,
    MemorySubmitter,
)
from tranship.backends.memory._space import Defaults
from tranship.checks import not_negative
from tranship.errors import ClosedError
from tranship.ports import Capabilities, Capability, ConnectionEvent, CountKind, Level, Support
from tranship.settings import BackendConfig, CommonOptions


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(CommonOptions):
    """Options of a ``memory://`` URL."""

    aging: float = 0.0
    """Seconds of waiting that raise a task's rank by one level; 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("aging", self.aging)


_PROPERTIES: Mapping[Capability, Mapping[str, Any]] = {
    Capability.DELAY: {"resolution": 0.01, "cancellable": True, "clock": "host"},
    Capability.DELIVERY_COUNT: {"kind": CountKind.EXACT},
    Capability.KEY_WINDOW: {"window": "per-task"},
    Capability.RESULT_TTL: {"ttl": "per-result"},
}
_ABSENT = frozenset({Capability.DURABLE, Capability.CROSS_PROCESS})


class MemoryBackend:
    """Tasks in this process's memory: for tests, for trying out, for work that may die with the process.

    Everything a durable broker does, it does too, but survive. ``memory://name`` is one broker for all
    clients and workers of the process, whatever their thread or loop.
    """

    name = "memory"
    address: str | None = None

    def __init__(self, config: BackendConfig) -> None:
        self._options = config.options_as(MemoryOptions)
        self._url = str(config.url)
        self._name = config.url.host or config.url.path.strip("/")
        self._config = config
        self._consumers: list[MemoryConsumer] = []
        self._opened: _Opened | None = None
        self._closed = False

    @property
    def url(self) -> str:
        """The URL, without secrets."""
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        """Everything but surviving the process and reaching beyond it."""
        return Capabilities(
            {one: Support(Level.NATIVE, _PROPERTIES.get(one, {})) for one in Capability if one not in _ABSENT}
        )

    @property
    def warnings(self) -> Sequence[str]:
        """There is no server."""
        return ()

    @property
    def native(self) -> MemoryBroker:
        """The broker's state, shared by everybody who uses this name."""
        return self._config.shared(("memory", self._name), MemoryBroker)

    async def open(self) -> None:
        """Join the broker of this name, made by whoever comes first.

        Raises:
            ClosedError: it was closed, or this process is a fork of the one that made the broker.
        """
        if self._closed:
            raise ClosedError(f"{self._url} was closed; make a new backend")
        options = self._options
        defaults = Defaults(
            lease=options.lease,
            result_ttl=options.result_ttl,
            dedup_window=options.dedup_window,
            aging=options.aging,
        )
        gate = Gate(self.native.space(options.namespace), defaults, options.max_message_size)
        self._opened = _Opened(gate)

    async def aclose(self) -> None:
        """Give back what is held and wake whoever waits. Idempotent."""
        self._closed = True
        opened, self._opened = self._opened, None
        if opened is None or opened.gate.foreign:
            return
        for consumer in self._consumers:
            await consumer.aclose()
        opened.results.close()
        opened.control.close()
        opened.gate.close()

    async def ping(self) -> None:
        """Make sure that the broker can be used from here."""
        with self._use().gate.enter():
            pass

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        """Nothing can be lost: ``listener`` is never called."""

    async def ensure(self, queues: Sequence[str]) -> None:  # noqa: ARG002 - the port's signature
        """Nothing needs creating."""
        self._use()

    def submitter(self) -> MemorySubmitter:
        """The one submitter."""
        return self._use().submitter

    def consumer(self, queues: Sequence[str]) -> MemoryConsumer:
        """A new consumer of ``queues``."""
        consumer = MemoryConsumer(self._use().gate, queues)
        self._consumers.append(consumer)
        return consumer

    def results(self) -> MemoryResultStore:
        """The one result store."""
        return self._use().results

    def control(self) -> MemoryControl:
        """The one control channel."""
        return self._use().control

    def inspector(self) -> MemoryInspector:
        """The one inspector."""
        return self._use().inspector

    def __repr__(self) -> str:
        return f"MemoryBackend({self._url!r})"

    def _use(self) -> _Opened:
        if self._opened is None:
            raise ClosedError(f"{self._url} is not open; await open() first, or make a new backend after aclose()")
        return self._opened


class _Opened:
    """The ports of an open backend."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.submitter = MemorySubmitter(gate)
        self.results = MemoryResultStore(gate)
        self.control = MemoryControl(gate)
        self.inspector = MemoryInspector(gate)
