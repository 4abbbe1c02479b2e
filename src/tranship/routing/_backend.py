"""Several brokers as one backend: opens and closes, and hands out the ports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from statistics import median

from tranship.clocks import Clock, TellsTime
from tranship.errors import ClosedError, InvalidOptionError, PluginError, UnsupportedError
from tranship.ports import Backend, Capabilities, Capability, ConnectionEvent, CountKind
from tranship.routing._background import Background
from tranship.routing._capabilities import together, unfit
from tranship.routing._consumer import RoutedConsumer
from tranship.routing._control import RoutedControl
from tranship.routing._fleet import Fleet
from tranship.routing._inspector import RoutedInspector
from tranship.routing._member import Member
from tranship.routing._options import RoutingOptions, brokers_of, explained
from tranship.routing._placements import Placements
from tranship.routing._results import RoutedResults
from tranship.routing._status import RoutingStatus
from tranship.routing._submitter import RoutedSubmitter
from tranship.settings import BackendConfig, BrokerURL

__all__ = ["RoutedBackend"]

log = logging.getLogger("tranship.routing")

Listener = Callable[[ConnectionEvent, int], None]


class RoutedBackend:
    """Brokers used one for another (``failover``) or in turn (``round-robin``); see :class:`tranship.ports.Backend`.

    It opens with one of them and uses the others as they come. Consumers take from all of them in both ways.
    """

    name = "routing"
    address: str | None = None
    """Each broker's own is put on what it is given."""

    def __init__(self, config: BackendConfig) -> None:
        if config.create is None:
            raise PluginError("several brokers need a registry to make their backends; use Registry().create(url)")
        self._url = str(config.url)
        self._options = RoutingOptions.read(config.url)
        self._background = Background()
        urls = brokers_of(config.url, self._options)
        self._fleet = self._make_fleet(config, urls)
        # The brokers have checked it by now.
        self._aging = any(float(one.options.get("aging", 0)) > 0 for one in urls)
        self._placements = Placements()
        self._results = RoutedResults(self._fleet, self._placements)
        self._submitter = RoutedSubmitter(self._fleet, self._placements, self._results)
        self._control = RoutedControl(self._fleet)
        self._inspector = RoutedInspector(self._fleet, self._results)
        self._consumers: list[RoutedConsumer] = []
        self._listeners: list[Listener] = []
        self._queues: dict[str, None] = {}
        self._generation = 0
        self._begun = self._closed = False
        self._clock = Clock()

    @property
    def url(self) -> str:
        """The URL, without secrets."""
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        """What all brokers can, in its weakest form."""
        return self._fleet.capabilities

    @property
    def warnings(self) -> Sequence[str]:
        """What every broker says, and which of them are away."""
        found = [f"{one.url}: {text}" for one in self._fleet.members if one.opened for text in one.backend.warnings]
        away = [f"{one.url} is not used: {one.cause}" for one in self._fleet.members if not one.usable]
        return [*found, *away]

    @property
    def native(self) -> RoutingStatus:
        """A snapshot: each broker with its circuit, its share and its own backend; what was published again."""
        return self._fleet.status()

    async def open(self) -> None:
        """Open all brokers at once; those that cannot be opened are tried again in the background.

        Raises:
            BrokerUnreachable: none could be opened; names each cause.
            BrokerRefused: none could, and none ever will.
            ClosedError: opened or closed before.
        """
        if self._begun or self._closed:
            raise ClosedError(f"the backend of {self._url} was opened before; make a new one")
        self._begun = True
        try:
            await asyncio.gather(*(one.open() for one in self._fleet.members))
            self._start()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Give back what is held and close all brokers. Idempotent."""
        self._closed = True
        self._fleet.is_open = False
        await _all_closed(self._consumers)
        await _all_closed(self._fleet.members)
        await self._background.aclose()
        self._fleet.announce()

    async def ping(self) -> None:
        """Ask every broker for a sign of life; one is enough.

        Raises:
            BrokerUnreachable: there was none.
        """
        await self._fleet.all_usable("ping", lambda backend: backend.ping())

    @property
    def clock(self) -> Clock:
        """What the brokers' clocks say, which ought to agree: the one in the middle."""
        return self._clock

    async def read_clock(self) -> None:
        """Ask every broker what time it is.

        Raises:
            BrokerUnreachable: none answered.
        """
        await self._fleet.all_usable("reading clocks", _read_clock)
        clocks = [one.backend.clock for one in self._fleet.members if one.usable and isinstance(one.backend, TellsTime)]
        if clocks:
            self._clock.ahead = median(clock.ahead for clock in clocks)

    def on_event(self, listener: Listener) -> None:
        """Call ``listener`` whenever a broker is lost or there again."""
        self._listeners.append(listener)

    async def ensure(self, queues: Sequence[str]) -> None:
        """Create what the queues need at every broker, also at those that come later."""
        self._queues.update(dict.fromkeys(queues))
        await self._fleet.all_usable("creating queues", lambda backend: backend.ensure(queues))

    def submitter(self) -> RoutedSubmitter:
        """The submitter."""
        self._fleet.check()
        return self._submitter

    def consumer(self, queues: Sequence[str]) -> RoutedConsumer:
        """A new consumer of ``queues`` at all brokers."""
        self._fleet.check()
        consumer = RoutedConsumer(
            self._fleet, self._placements, queues, strict=self._strict, on_close=self._consumers.remove
        )
        self._consumers.append(consumer)
        return consumer

    def results(self) -> RoutedResults:
        """The result store; where all brokers only push results to who submitted, so does it."""
        self._fleet.check()
        if not self._fleet.capabilities.answers:
            raise UnsupportedError(f"not every broker of {self._url} keeps results; give them a result store")
        return self._results

    def control(self) -> RoutedControl:
        """The control channel."""
        self._need(Capability.CONTROL)
        return self._control

    def inspector(self) -> RoutedInspector:
        """The inspector."""
        self._fleet.check()
        return self._inspector

    def __repr__(self) -> str:
        return f"RoutedBackend({self._url!r})"

    # Opening.

    def _make_fleet(self, config: BackendConfig, urls: Sequence[BrokerURL]) -> Fleet:
        assert config.create is not None
        try:
            members = [
                Member(url, self._options.weight(index), config.create, self._options, self._background)
                for index, url in enumerate(urls)
            ]
        except InvalidOptionError as error:
            raise explained(error, config.url) from error
        in_turn = config.url.scheme == "round-robin"
        fleet = Fleet(members, self._options, self._background, in_turn=in_turn, url=self._url)
        for one in members:
            one.told = self._told
        return fleet

    def _start(self) -> None:
        fleet = self._fleet
        there = [one for one in fleet.members if one.opened]
        if not there:
            raise fleet.none_opened()
        # One that is away is taken at its word: what depends on its server is known once it is there.
        known = [one.backend.capabilities for one in fleet.members]
        exact = all(one[Capability.DELIVERY_COUNT].properties.get("kind") == CountKind.EXACT for one in known)
        self._strict = exact and not self._aging
        fleet.capabilities = together(known, in_turn=fleet.in_turn, strict=self._strict)
        for one in there:
            self._attach(one)
        for one in fleet.members:
            one.join = self._join
            if not one.opened:
                log.warning("working without broker %s for now: %s", one.url, one.cause)
        fleet.is_open = True

    async def _join(self, member: Member, is_new: bool) -> None:
        """A broker is back: have it know what the others know, before it is used."""
        if is_new:
            self._check_fit(member)
            if self._queues:
                await member.backend.ensure(list(self._queues))
        if self._fleet.capabilities.has(Capability.CONTROL):
            await self._control.join(member)
        if is_new:
            self._attach(member)

    def _attach(self, member: Member) -> None:
        limit = member.backend.submitter().max_message_size
        self._fleet.max_message_size = min(limit, self._fleet.max_message_size)
        if self._fleet.capabilities.has(Capability.RESULT_PUSH):
            self._results.join(member)

    def _check_fit(self, member: Member) -> None:
        if lacks := unfit(member.backend.capabilities, self._fleet.capabilities):
            names = ", ".join(lacks)
            raise UnsupportedError(f"{member.url} lacks {names}, which its fellows have; open a new client or worker")

    def _told(self, _member: Member, event: ConnectionEvent) -> None:
        self._fleet.announce()
        if not self._fleet.is_open:
            return
        self._generation += event is ConnectionEvent.RESTORED
        for listener in self._listeners:
            listener(event, self._generation)

    def _need(self, capability: Capability) -> None:
        self._fleet.check()
        if not self._fleet.capabilities.has(capability):
            raise UnsupportedError(f"not every broker of {self._url} has {capability}")


async def _read_clock(backend: Backend) -> None:
    if isinstance(backend, TellsTime):
        await backend.read_clock()


async def _all_closed(things: Sequence[RoutedConsumer | Member]) -> None:
    """Close each, whatever becomes of the others."""
    for failed in await asyncio.gather(*(one.aclose() for one in tuple(things)), return_exceptions=True):
        if isinstance(failed, Exception):
            log.warning("closing failed: %r", failed)
