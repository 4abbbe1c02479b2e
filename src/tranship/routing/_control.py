"""Cancels, commands and heartbeats at all brokers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, cast

from tranship.errors import BrokerUnreachable, TranshipError
from tranship.guards import one_listener
from tranship.ports import (
    Backend,
    CancelMarks,
    CancelReport,
    Capability,
    Command,
    Heartbeat,
    NameHolder,
    NameKeeper,
    Panel,
    PeerControl,
    PeerEvent,
    Signal,
    SignalSink,
    Tombstone,
)
from tranship.routing._fleet import Fleet
from tranship.routing._member import Member

__all__ = ["RoutedControl"]

log = logging.getLogger("tranship.routing")

ECHO: Final = 5.0
"""Seconds within which the same command from another broker is the same one."""
SWEEP: Final = 1024
"""Cancels that a broker has missed, from which on those that are over are looked for."""

Missed = dict[tuple[str, str], Tombstone]


class RoutedControl:
    """See :class:`tranship.ports.ControlChannel`, :class:`tranship.ports.CancelMarks` and
    :class:`tranship.ports.NameKeeper`. Everything is told to every broker; a listener hears each command once, and
    knows what is cancelled as soon as it has heard any broker that was told.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._sink: SignalSink | None = None
        self._worker = ""
        self._listening: dict[Member, Backend] = {}
        self._missed: dict[Member, Missed] = {}
        self._sweep_at = SWEEP
        self._echoes = _Echoes()
        self._panel: Panel | None = None

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Start the feeds of all brokers that are there; those that come later are listened to before they are used.

        Raises:
            BusyError: listening already.
            BrokerUnreachable: no broker could be listened to.
        """
        self._fleet.check()
        one_listener(self._sink)
        self._sink, self._worker = sink, worker
        found = await self._fleet.each(self._fleet.usable(), self._listen)
        if not self._listening:
            self._sink = None
            raise next((one for one in found.values() if one is not None), self._fleet.nobody("listening"))

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Store tombstones at every broker; one that is away is told when it is back, as long as this backend lives.

        Raises:
            BrokerUnreachable: no broker was told.
        """
        answers = await self._fleet.all_usable("cancelling", lambda backend: backend.control().cancel(tombstones))
        for one in self._fleet.members:
            if one not in answers:
                self._miss(one, tombstones)
                one.set_aside(BrokerUnreachable(f"{one.url} was not told of a cancel"))
        removed = {task_id: None for report in answers.values() for task_id in report.removed}
        return CancelReport(removed=list(removed))

    async def marked(self, keys: Sequence[str]) -> Sequence[bool]:
        """Say of each cancel key whether another program has left a mark for it at any broker; False where none of
        them knows marks.

        Raises:
            BrokerUnreachable: no broker has answered.
        """
        return _anywhere(keys, await self._fleet.all_usable("looking for marks", lambda one: _marked(one, keys)))

    async def send(self, command: Command) -> None:
        """Tell listeners, whichever broker they hear."""
        await self._fleet.all_usable("sending a command", lambda backend: backend.control().send(command))

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make a worker known everywhere."""
        await self._fleet.all_usable("a heartbeat", lambda backend: backend.control().beat(heartbeat))

    async def take_name(self, holder: NameHolder, seconds: float) -> NameHolder | None:
        """Take a worker's name at every broker, or say who has it at the first where somebody else does.

        Raises:
            BrokerUnreachable: no broker has answered.
        """
        self._fleet.check()
        answers: dict[Member, NameHolder | TranshipError | None] = {}
        for one in self._fleet.usable():
            # One after the other, in the order that all know: of two who want it, one gets it everywhere.
            answers |= await self._fleet.each([one], lambda _member, backend: _take_name(backend, holder, seconds))
            if isinstance(other := answers[one], NameHolder):
                return other
        if all(isinstance(one, TranshipError) for one in answers.values()):
            raise self._fleet.nobody("taking a name")
        return None

    async def free_name(self, holder: NameHolder) -> None:
        """Give a worker's name up at every broker."""
        await self._fleet.all_usable("giving a name up", lambda backend: _free_name(backend, holder))

    @property
    def has_peers(self) -> bool:
        """Whether programs of another system are spoken to at any broker that is there."""
        controls = [one.backend.control() for one in self._fleet.usable()]
        return any(isinstance(one, PeerControl) and one.has_peers for one in controls)

    @property
    def clock(self) -> int:
        """What the logical clock says that is farthest."""
        controls = [one.backend.control() for one in self._fleet.usable()]
        return max((one.clock for one in controls if isinstance(one, PeerControl)), default=0)

    def obey(self, panel: Panel) -> None:
        """Have ``panel`` do what they command, at whichever broker."""
        self._panel = panel

    async def announce(self, node: str, events: Sequence[PeerEvent]) -> None:
        """Tell them at every broker where they are.

        Raises:
            BrokerUnreachable: no broker was told.
        """
        await self._fleet.all_usable("announcing", lambda backend: _announce(backend, node, events))

    async def join(self, member: Member) -> None:
        """``member`` is there, or there again: nothing is taken from it before it is known what is cancelled there."""
        if self._sink is not None and self._listening.get(member) is not member.backend:
            await self._listen(member, member.backend)
        # More of them may come meanwhile: on return there is none.
        while live := _live(self._missed.pop(member, {})):
            try:
                await member.backend.control().cancel(list(live.values()))
            except BaseException:
                self._missed[member] = {**live, **self._missed.get(member, {})}
                raise
            log.info("%d cancels are made known to %s, which was away", len(live), member.url)

    def _miss(self, member: Member, tombstones: Sequence[Tombstone]) -> None:
        missed = self._missed.setdefault(member, {})
        missed.update({(grave.kind, grave.value): grave for grave in tombstones})
        if len(missed) > self._sweep_at:
            # A broker that never comes back must not fill the memory.
            missed = self._missed[member] = _live(missed)
            self._sweep_at = max(SWEEP, 2 * len(missed))

    async def _listen(self, member: Member, backend: Backend) -> TranshipError | None:
        if self._listening.get(member) is backend:
            return None
        control = backend.control()
        if self._panel is not None and isinstance(control, PeerControl):
            control.obey(self._panel)
        await control.listen(lambda signals: self._heard(member, signals), worker=self._worker)
        self._listening[member] = backend
        return None

    def _heard(self, member: Member, signals: Sequence[Signal]) -> None:
        fresh = [one for one in signals if not isinstance(one, Command) or self._echoes.is_new(member, one)]
        if fresh and self._sink is not None:
            self._sink(fresh)


def _live(missed: Missed) -> Missed:
    now = time.time()
    return {key: grave for key, grave in missed.items() if grave.expires > now}


async def _marked(backend: Backend, keys: Sequence[str]) -> Sequence[bool]:
    control = backend.control()
    return await control.marked(keys) if isinstance(control, CancelMarks) else [False] * len(keys)


async def _announce(backend: Backend, node: str, events: Sequence[PeerEvent]) -> None:
    control = backend.control()
    if isinstance(control, PeerControl) and control.has_peers:
        await control.announce(node, events)


async def _take_name(backend: Backend, holder: NameHolder, seconds: float) -> NameHolder | None:
    keeper = _name_keeper(backend)
    return None if keeper is None else await keeper.take_name(holder, seconds)


async def _free_name(backend: Backend, holder: NameHolder) -> None:
    if (keeper := _name_keeper(backend)) is not None:
        await keeper.free_name(holder)


def _name_keeper(backend: Backend) -> NameKeeper | None:
    """Return what keeps names there; None: it came late, and keeps none."""
    return cast("NameKeeper", backend.control()) if backend.capabilities.has(Capability.UNIQUE_NAMES) else None


def _anywhere(keys: Sequence[str], answers: Mapping[Member, Sequence[bool]]) -> Sequence[bool]:
    return [any(marked[place] for marked in answers.values()) for place in range(len(keys))]


class _Echoes:
    """Tells a command from its copies that come through other brokers: how often each was heard from whom."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, Counter[Member]]] = {}

    def is_new(self, member: Member, command: Command) -> bool:
        """Whether it is heard for the first time."""
        now = time.monotonic()
        self._heard = {key: entry for key, entry in self._heard.items() if now - entry[0] < ECHO}
        key = repr((command.name, sorted(command.arguments.items()), command.destination and list(command.destination)))
        times = self._heard[key][1] if key in self._heard else Counter[Member]()
        before = max(times.values(), default=0)
        times[member] += 1
        self._heard[key] = (now, times)
        return times[member] > before
