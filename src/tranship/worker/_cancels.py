"""What this worker knows to be cancelled: the live tombstones, fed by the control channel."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tranship.envelope import Envelope
from tranship.ports import Signal, Tombstone

__all__ = ["Cancels"]


class Cancels:
    """Live tombstones by kind and value.

    Args:
        announce: called with each new tombstone, so that running tasks hear of it.
    """

    def __init__(self, announce: Callable[[Tombstone], None]) -> None:
        self._announce = announce
        self._until: dict[tuple[str, str], float] = {}
        self._sweep_at = 1024

    def heard(self, signals: Sequence[Signal]) -> None:
        """Take in what the control channel brings."""
        for signal in signals:
            if isinstance(signal, Tombstone):
                key = signal.kind, signal.value
                # Whoever forgets it sooner, as Celery's workers do, does not make us forget it.
                self._until[key] = max(signal.expires, self._until.get(key, 0.0))
                if signal.running:
                    self._announce(signal)
        if len(self._until) > self._sweep_at:
            self._sweep()

    def covers(self, envelope: Envelope) -> bool:
        """Whether the task has been cancelled, by its id or by its key."""
        if not self._until:
            return False
        return self._live("id", envelope.id) or (
            envelope.cancel_key is not None and self._live("key", envelope.cancel_key)
        )

    def _live(self, kind: str, value: str) -> bool:
        until = self._until.get((kind, value))
        return until is not None and until > time.time()

    def _sweep(self) -> None:
        now = time.time()
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._sweep_at = max(1024, 2 * len(self._until))


def hits(tombstone: Tombstone, envelope: Envelope) -> bool:
    """Whether ``tombstone`` is about ``envelope``."""
    mine = envelope.id if tombstone.kind == "id" else envelope.cancel_key
    return mine == tombstone.value
