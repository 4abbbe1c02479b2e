"""Tombstones, live listeners and heartbeats of one namespace."""

from __future__ import annotations

from collections.abc import Sequence

from tranship.backends.memory._agenda import Expiring
from tranship.backends.memory._clock import Clock
from tranship.backends.memory._loops import Outbox
from tranship.ports import Command, Heartbeat, Signal, Tombstone

_BEAT_KEPT = 60.0


class Signals:
    """Mutable state: all three; changed only under the broker's lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tombstones: Expiring[tuple[str, str], Tombstone] = Expiring()
        self._listeners: dict[Outbox[Signal], str] = {}
        self._beats: Expiring[str, Heartbeat] = Expiring()

    def listen(self, outbox: Outbox[Signal], worker: str) -> Sequence[Signal]:
        """Post from now on to ``outbox``; return every live tombstone."""
        self._listeners[outbox] = worker
        return self._tombstones.values(self._clock.wall())

    def leave(self, outbox: Outbox[Signal]) -> None:
        """Post there no more."""
        self._listeners.pop(outbox, None)

    def bury(self, tombstone: Tombstone) -> None:
        """Keep a tombstone until it expires, the longer one of two, and tell everybody."""
        key, now = (tombstone.kind, tombstone.value), self._clock.wall()
        known = self._tombstones.get(key, now)
        if tombstone.expires > now and (known is None or tombstone.expires > known.expires):
            self._tombstones.put(key, tombstone, until=tombstone.expires)
        for outbox in self._listeners:
            outbox.post(tombstone)

    def send(self, command: Command) -> None:
        """Tell those whom the command is for."""
        for outbox, worker in self._listeners.items():
            if command.destination is None or worker in command.destination:
                outbox.post(command)

    def beat(self, heartbeat: Heartbeat) -> None:
        """Remember the worker for a minute, or forget it."""
        if heartbeat.stopping:
            self._beats.drop(heartbeat.worker)
        else:
            self._beats.put(heartbeat.worker, heartbeat, until=self._clock.steady() + _BEAT_KEPT)

    def workers(self) -> Sequence[Heartbeat]:
        """The latest beats, by name."""
        return sorted(self._beats.values(self._clock.steady()), key=lambda beat: beat.worker)
