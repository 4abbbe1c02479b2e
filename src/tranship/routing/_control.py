"""Cancels, commands and heartbeats at all brokers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from tranship.errors import BrokerUnreachable, BusyError, TranshipError
from tranship.ports import Backend, CancelReport, Command, Heartbeat, Signal, SignalSink, Tombstone
from tranship.routing._fleet import Fleet
from tranship.routing._member import Member

__all__ = ["RoutedControl"]

log = logging.getLogger("tranship.routing")

ECHO: Final = 5.0
"""Seconds within which the same command from another broker is the same one."""


class RoutedControl:
    """See :class:`tranship.ports.ControlChannel`. Everything is told to every broker; a listener hears each command
    once, and knows what is cancelled as soon as it has heard any broker that was told.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._sink: SignalSink | None = None
        self._worker = ""
        self._listening: dict[Member, Backend] = {}
        self._missed: dict[Member, dict[tuple[str, str], Tombstone]] = {}
        self._echoes = _Echoes()

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Start the feeds of all brokers that are there; those that come later are listened to before they are used.

        Raises:
            BusyError: listening already.
            BrokerUnreachable: no broker could be listened to.
        """
        self._fleet.check()
        if self._sink is not None:
            raise BusyError("this backend listens already; open another one for another worker")
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
                self._missed.setdefault(one, {}).update({(grave.kind, grave.value): grave for grave in tombstones})
                one.set_aside(BrokerUnreachable(f"{one.url} was not told of a cancel"))
        removed = {task_id: None for report in answers.values() for task_id in report.removed}
        return CancelReport(removed=list(removed))

    async def send(self, command: Command) -> None:
        """Tell listeners, whichever broker they hear."""
        await self._fleet.all_usable("sending a command", lambda backend: backend.control().send(command))

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make a worker known everywhere."""
        await self._fleet.all_usable("a heartbeat", lambda backend: backend.control().beat(heartbeat))

    async def join(self, member: Member) -> None:
        """``member`` is there, or there again: nothing is taken from it before it is known what is cancelled there."""
        if self._sink is not None and self._listening.get(member) is not member.backend:
            await self._listen(member, member.backend)
        missed = self._missed.get(member, {})
        live = [grave for grave in missed.values() if grave.expires > time.time()]
        if live:
            await member.backend.control().cancel(live)
            log.info("%d cancels are made known to %s, which was away", len(live), member.url)
        self._missed.pop(member, None)

    async def _listen(self, member: Member, backend: Backend) -> TranshipError | None:
        if self._listening.get(member) is backend:
            return None
        await backend.control().listen(lambda signals: self._heard(member, signals), worker=self._worker)
        self._listening[member] = backend
        return None

    def _heard(self, member: Member, signals: Sequence[Signal]) -> None:
        fresh = [one for one in signals if not isinstance(one, Command) or self._echoes.is_new(member, one)]
        if fresh and self._sink is not None:
            self._sink(fresh)


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
