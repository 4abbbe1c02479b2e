"""What this worker knows to be cancelled: the live tombstones, fed by the control channel."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from tranship.envelope import Envelope
from tranship.errors import TranshipError
from tranship.ports import CancelMarks, ControlChannel, Signal, Tombstone
from tranship.protocol import stamps_of

__all__ = ["Cancels", "hits", "marks_of"]

log = logging.getLogger("tranship.worker")

MEMORY: Final = 3 * 3600.0
"""Seconds that a mark is remembered: whoever left it may take it away before all that it is for has come."""
ASKING: Final = 5.0
"""Seconds that asking for a mark may take."""


class Cancels:
    """Live tombstones by kind and value.

    Args:
        announce: called with each new tombstone, so that running tasks hear of it.
        marks: where other programs leave their cancels; None: nowhere.
    """

    def __init__(self, announce: Callable[[Tombstone], None], marks: CancelMarks | None = None) -> None:
        self._announce = announce
        self._marks = marks
        self._until: dict[tuple[str, str], float] = {}
        self._stamped = False
        """Whether a stamp has ever been cancelled: until then nobody looks for them."""
        self._sweep_at = 1024

    def heard(self, signals: Sequence[Signal]) -> None:
        """Take in what the control channel brings."""
        for signal in signals:
            if isinstance(signal, Tombstone):
                key = signal.kind, signal.value
                # Whoever forgets it sooner, as Celery's workers do, does not make us forget it.
                self._until[key] = max(signal.expires, self._until.get(key, 0.0))
                self._stamped = self._stamped or signal.kind == "stamp"
                if signal.running:
                    self._announce(signal)
        if len(self._until) > self._sweep_at:
            self._sweep()

    def covers(self, envelope: Envelope) -> bool:
        """Whether the task has been cancelled, by its id, by its key or by a stamp that it carries."""
        if not self._until:
            return False
        return (
            self._live("id", envelope.id)
            or (envelope.cancel_key is not None and self._live("key", envelope.cancel_key))
            or (self._stamped and any(self._live("stamp", stamp) for stamp in stamps_of(envelope)))
        )

    async def covers_key(self, key: str) -> bool:
        """Whether ``key`` has been cancelled, or marked by a program that knows no tombstones."""
        if self._live("key", key):
            return True
        if self._marks is None or not await self._is_marked(self._marks, key):
            return False
        self._until["key", key] = time.time() + MEMORY
        return True

    async def _is_marked(self, marks: CancelMarks, key: str) -> bool:
        try:
            async with asyncio.timeout(ASKING):
                (marked,) = await marks.marked([key])
        except (TranshipError, TimeoutError) as error:
            # Working for nobody is better than not working for somebody.
            log.warning("whether cancel key %r is marked is not known, its task runs: %r", key[:200], error)
            return False
        return marked

    def _live(self, kind: str, value: str) -> bool:
        until = self._until.get((kind, value))
        return until is not None and until > time.time()

    def _sweep(self) -> None:
        now = time.time()
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._sweep_at = max(1024, 2 * len(self._until))


def hits(tombstone: Tombstone, envelope: Envelope) -> bool:
    """Whether ``tombstone`` is about ``envelope``."""
    if tombstone.kind == "stamp":
        return tombstone.value in stamps_of(envelope)
    mine = envelope.id if tombstone.kind == "id" else envelope.cancel_key
    return mine == tombstone.value


def marks_of(*controls: ControlChannel | None) -> CancelMarks | None:
    """Return the first that can tell of marks, if any."""
    return next((one for one in controls if isinstance(one, CancelMarks)), None)
