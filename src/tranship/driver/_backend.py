"""The backend: a driver's connection behind all ports."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from tranship.clocks import Clock
from tranship.driver._capabilities import derived
from tranship.driver._connection import Connection, answers_submitters
from tranship.driver._dedup import Dedup
from tranship.driver._delay import Delays
from tranship.driver._dialling import Classify, unreachable
from tranship.driver._kit import Kit, OwnPorts
from tranship.driver._outcomes import Outcomes
from tranship.driver._queue import Ensuring, traits_of
from tranship.driver._results import DriverResults
from tranship.driver._rows import Rows
from tranship.driver._submitter import DriverSubmitter
from tranship.driver._supervisor import Supervisor
from tranship.driver._timing import Timing
from tranship.driver._topic import TableTopic
from tranship.envelope import Priority
from tranship.errors import TranshipError, UnsupportedError
from tranship.ports import (
    Capabilities,
    Capability,
    ConnectionEvent,
    Consumer,
    ControlChannel,
    Inspector,
    Level,
    ResultStore,
    Submitter,
    Support,
)
from tranship.settings import BackendConfig, CommonOptions

if TYPE_CHECKING:
    # Loaded where they are asked for: a client that submits and waits needs none of them.
    from tranship.driver._consumer import DriverConsumer
    from tranship.driver._control import DriverControl
    from tranship.driver._known_ids import KnownIds
    from tranship.driver._records import DriverRecords
    from tranship.driver._removal import Removal
    from tranship.driver._replies import PushedResults
    from tranship.driver._settling import Settling
    from tranship.driver._signal_store import SignalStore
    from tranship.ports import ChordStore

__all__ = ["DriverBackend"]

_NO_IDS: Final = (
    "knows_ids: {} has no table to keep ids in; leave the option out, or give it to the store that keeps results "
    "(result_url=sqlite:///results.db?knows_ids=true)"
)
GIVING_BACK: Final = 2.0
"""Seconds that a consumer has to give back what it holds when the backend is closed."""


class DriverBackend:
    """All ports from a driver's primitives; see :class:`tranship.ports.Backend`.

    A plugin's factory returns one: it is composed, not derived from.

    Args:
        name: of the driver.
        config: what the factory was called with.
        options: its URL options, read by the factory.
        connect: opens one :class:`Connection`. Called again after each loss.
        classify: makes one of our errors of a native one; see :data:`Classify`.
        declared: capabilities that no primitive shows, DURABLE and CROSS_PROCESS above all; a function, where they
            depend on what is found at the broker.
        outline: makes a connection that is never opened, whose verbs show what the driver can do: for who asks before
            it is open, as a router does of a broker that is away. None: he is told only what is declared.
        own: the ports that the driver serves itself.
        timing: how long to wait for a broker with a connection.
        warnings: returns what ``tranship doctor`` should show.
    """

    def __init__(
        self,
        name: str,
        config: BackendConfig,
        *,
        options: CommonOptions,
        connect: Callable[[], Awaitable[Connection]],
        classify: Classify = unreachable,
        declared: Mapping[Capability, Support | Level]
        | Callable[[], Mapping[Capability, Support | Level]]
        | None = None,
        outline: Callable[[], Connection] | None = None,
        own: OwnPorts | None = None,
        timing: Timing | None = None,
        warnings: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.name: str = name
        self.url: str = str(config.url)
        self._connect, self._outline, self._warnings = connect, outline, warnings
        self._declared = declared if callable(declared) else lambda: declared or {}
        self._capabilities: Capabilities | None = None
        own = self._own = own or OwnPorts()
        supervisor = self._supervisor = Supervisor(name, self.url, connect, classify, timing or Timing())
        rows = self._rows = Rows(supervisor)
        supervisor.table_topic = TableTopic(supervisor, rows)
        self._delays = Delays(supervisor, rows)
        limit = options.max_message_size
        results = DriverResults(supervisor, rows, self._delays, ttl=options.result_ttl, limit=limit)
        outcomes = self._outcomes = Outcomes(results, rows)
        self._dedup = Dedup(rows, outcomes, options.dedup_window, lambda: supervisor.traits.unique)
        self._replies: PushedResults | None = None
        self._limit = limit
        self._consumers: list[DriverConsumer] = []
        self._own_consumers: weakref.WeakSet[Any] = weakref.WeakSet()
        submitter = DriverSubmitter(supervisor, rows, self._dedup, self._delays, limit)
        kit = self._kit = Kit(
            supervisor,
            submitter=submitter,
            results=results,
            control=self._kits_control,
            inspector=self._kits_inspector,
            consumer=self._kits_consumer,
        )
        self._submitter = kit.submitter if own.submitter is None else own.submitter(kit)
        self._results = kit.results if own.results is None else own.results(kit)
        if own.control is not None:
            self._control = own.control(kit)
        if own.inspector is not None:
            self._inspector = own.inspector(kit)
        outcomes.take_over(self._results)
        self._known_ids = self._told_of_ids(options.result_ttl) if options.knows_ids else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What the driver can do; before it is open, what its outline shows."""
        if self._capabilities is not None:
            return self._capabilities
        return Capabilities(self._declared()) if self._outline is None else self._derived(self._outline())

    @property
    def warnings(self) -> Sequence[str]:
        """What is set at the broker in a way that loses or delays work."""
        return self._warnings()

    @property
    def address(self) -> str | None:
        """Where results are to be sent to, on a broker that keeps none."""
        if self._replies is not None:
            return self._replies.address
        found: str | None = getattr(self._supervisor.current, "address", None) if self._supervisor.connected else None
        return found

    @property
    def clock(self) -> Clock:
        """The broker's clock; the host's where it has none."""
        return self._supervisor.clock

    async def read_clock(self) -> None:
        """Ask the broker what time it is."""
        await self._supervisor.together(self._supervisor.read_clock())

    @property
    def native(self) -> Any:
        """The driver's own object; None while there is no connection."""
        return self._supervisor.current.native if self._supervisor.connected else None

    async def open(self) -> None:
        """Connect."""
        # Whoever opens it twice closes nothing.
        self._supervisor.check_new()
        try:
            await self._supervisor.open()
            if self._own.results is None and answers_submitters(self._supervisor.current):
                from tranship.driver._replies import PushedResults

                self._replies = PushedResults(self._supervisor, self._limit)
                self._outcomes.take_over(self._replies)
            self._check_keeps_ids(self._supervisor.current)
            self._capabilities = self._derived(self._supervisor.current)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Give back what is held, and close. Idempotent."""
        if self._supervisor.gate.closed:
            return
        # Those that nobody has asked for have nothing to close.
        asked = [vars(self)[name] for name in ("_control", "_inspector") if name in vars(self)]
        for one in (*self._own_consumers, *self._consumers, self._submitter, self._results, *asked):
            close = getattr(one, "aclose", None)
            if close is not None:
                with contextlib.suppress(TimeoutError, TranshipError):
                    async with asyncio.timeout(GIVING_BACK):
                        await close()
        await self._supervisor.aclose()

    async def ping(self) -> None:
        """Make one round trip."""
        await self._supervisor.call("ping", lambda connection: connection.ping())

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        """Call ``listener`` when the connection is lost or restored."""
        self._supervisor.listeners.append(listener)

    async def ensure(self, queues: Sequence[str]) -> None:
        """Create what the queues need, where anything does."""
        queue = self._supervisor.current.queue
        if isinstance(queue, Ensuring):
            await self._supervisor.call("ensure", lambda _: queue.ensure(queues))

    async def connect(self) -> Connection:
        """Open a connection of the driver's own, beside the backend's: for who tests its primitives, and closes it."""
        return await self._connect()

    def submitter(self) -> Submitter:
        """The one submitter."""
        return self._submitter

    def consumer(self, queues: Sequence[str]) -> Consumer:
        """A new consumer of ``queues``."""
        if self._own.consumer is None:
            return self._kits_consumer(queues)
        consumer = self._own.consumer(self._kit, queues)
        self._own_consumers.add(consumer)
        return consumer

    def _kits_consumer(self, queues: Sequence[str]) -> DriverConsumer:
        connection = self._supervisor.current
        if connection.table is not None and not traits_of(connection.queue).delays:
            self._delays.start()
        from tranship.driver._consumer import DriverConsumer
        from tranship.driver._early import EarlyConsumer, takes_early

        kind = EarlyConsumer if takes_early(connection) else DriverConsumer
        consumer = kind(self._supervisor, queues, self._settling, self._delays, self._consumers.remove)
        self._consumers.append(consumer)
        return consumer

    @cached_property
    def _settling(self) -> Settling:
        from tranship.driver._settling import Settling

        return Settling(self._supervisor, self._rows, self._outcomes, self._delays)

    @cached_property
    def _removal(self) -> Removal:
        from tranship.driver._removal import Removal

        return Removal(self._supervisor, self._outcomes, self._delays, self.capabilities.result_type)

    @cached_property
    def _signals(self) -> Callable[[], SignalStore]:
        from tranship.driver._signal_store import signal_store

        return signal_store(self._supervisor, self._rows)

    def _kits_control(self) -> DriverControl:
        from tranship.driver._control import DriverControl
        from tranship.driver._locks import WORKER_NAMES, Locks

        return DriverControl(self._supervisor, self._signals, self._removal, Locks(self._rows, WORKER_NAMES))

    def _kits_inspector(self) -> Inspector:
        from tranship.driver._inspector import DriverInspector

        return DriverInspector(
            self._supervisor,
            self._rows,
            self._signals,
            outcomes=self._outcomes,
            delays=self._delays,
            dedup=self._dedup,
            removal=self._removal,
        )

    def results(self) -> ResultStore:
        """The one result store."""
        self._supervisor.gate.check()
        if self._replies is not None:
            return self._replies
        if not self.capabilities.answers:
            self._need(Capability.RESULTS)
        return self._results if self._known_ids is None else self._known_ids

    def _check_keeps_ids(self, connection: Connection) -> None:
        if self._known_ids is not None and connection.table is None:
            raise UnsupportedError(_NO_IDS.format(self.name))

    def _told_of_ids(self, ttl: float) -> KnownIds:
        from tranship.driver._known_ids import KnownIds

        return KnownIds(self._results, self._supervisor, self._rows, ttl=ttl)

    @cached_property
    def _control(self) -> ControlChannel:
        return self._kit.control

    @cached_property
    def _inspector(self) -> Inspector:
        return self._kit.inspector

    def control(self) -> ControlChannel:
        """The one control channel."""
        self._need(Capability.CONTROL)
        return self._control

    def inspector(self) -> Inspector:
        """The one inspector; what the driver cannot serve, it refuses."""
        return self._inspector

    def records(self) -> DriverRecords:
        """The one place of records and locks."""
        self._need(Capability.RECORDS)
        return self._records

    @cached_property
    def _records(self) -> DriverRecords:
        from tranship.driver._records import DriverRecords

        return DriverRecords(self._supervisor, self._rows)

    def chords(self) -> ChordStore | None:
        """What counts the parts of chords, of the driver's own; None: it has none."""
        return None if self._own.chords is None else self._own_chords

    @cached_property
    def _own_chords(self) -> ChordStore:
        assert self._own.chords is not None
        return self._own.chords(self._kit)

    def numbered(self) -> Sequence[Priority]:
        """The level of each of Celery's numbers for a priority; none where they mean nothing."""
        return self._supervisor.traits.numbers

    def _derived(self, connection: Connection) -> Capabilities:
        told = self._known_ids is not None
        return derived(self.name, connection, self._declared(), self._own, told=told)

    def _need(self, capability: Capability) -> None:
        self._supervisor.gate.check()
        if not self.capabilities.has(capability):
            raise UnsupportedError(f"{self.name} has no {capability}: its driver gives the kit nothing to keep it in")
