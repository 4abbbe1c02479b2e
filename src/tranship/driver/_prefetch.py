"""Turns between queues, and the prefetch buffer: what was taken and has not been handed out, most urgent first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Final

from tranship.driver._nouns import Slot, Taken
from tranship.envelope import Priority

__all__ = ["PrefetchBuffer", "Turns", "apart_from_suspects"]

LEVEL: Final = attrgetter("priority")
SUSPECT: Final = 3
"""A message that is taken for the third time may be what killed those who had it."""


class Turns:
    """The slots of one consumer, most urgent first; on each level the queue that waits longest for its turn is first.

    Args:
        queues: names, in no order.
        levels: that the queue serves one after the other.

    Attributes:
        queues: whoever waits longest first.
    """

    def __init__(self, queues: Sequence[str], levels: Iterable[Priority]) -> None:
        self.queues, self._levels = list(dict.fromkeys(queues)), list(levels)
        self._slots = self._ordered()

    def slots(self, skip: Collection[str] = ()) -> list[Slot]:
        """Return them, without those of the queues in ``skip``."""
        return [slot for slot in self._slots if slot[0] not in skip] if skip else self._slots

    def served(self, taken: Sequence[Taken]) -> None:
        """Put the queues that something was taken from behind the others."""
        if len(self.queues) > 1:
            served = {one.queue for one in taken}
            self.queues.sort(key=lambda queue: queue in served)
            self._slots = self._ordered()

    def _ordered(self) -> list[Slot]:
        return [(queue, level) for level in self._levels for queue in self.queues]


class PrefetchBuffer:
    """What one consumer holds beyond what its receiver asked for.

    Args:
        lease: seconds that a token lasts; None: as long as the connection.

    Attributes:
        taken: all of it, most urgent first; changed here only.
    """

    def __init__(self, lease: float | None) -> None:
        self._lease = lease
        self.taken: list[Taken] = []

    def put(self, taken: Sequence[Taken]) -> None:
        """Keep what was taken, behind what is here on the same level."""
        self.taken += taken
        if len(self.taken) > 1:
            self.taken.sort(key=LEVEL)

    def has(self, skip: Collection[str]) -> bool:
        """Whether there is anything to hand out beside the queues in ``skip``."""
        return any(one.queue not in skip for one in self.taken) if skip else bool(self.taken)

    def serve(self, limit: int, skip: Collection[str]) -> Sequence[Taken]:
        """Hand out up to ``limit``; a suspect only alone."""
        wanted = [one for one in self.taken if not skip or one.queue not in skip][:limit]
        together = wanted if len(wanted) < 2 else apart_from_suspects(wanted)[0]
        if len(together) == len(self.taken):
            self.taken = []
        else:
            served = set(together)
            self.taken = [one for one in self.taken if one not in served]
        return together

    def stale(self, now: float) -> list[Taken]:
        """Take out what has lain here for so long that its lease may end soon after it is handed out."""
        if self._lease is None:
            return []
        oldest = now - self._lease / 2
        old = [one for one in self.taken if one.taken_at < oldest]
        if old:
            self.taken = [one for one in self.taken if one.taken_at >= oldest]
        return old

    def clear(self) -> list[Taken]:
        """Take everything out."""
        taken, self.taken = self.taken, []
        return taken


def apart_from_suspects(taken: Sequence[Taken]) -> tuple[Sequence[Taken], Sequence[Taken]]:
    """Return what may travel together, and the rest: those before a suspect, or it alone.

    A suspect takes no innocent message along when it kills its worker once more.
    """
    for at, one in enumerate(taken):
        if one.delivery_count >= SUSPECT and len(taken) > 1:
            return taken[: at or 1], taken[at or 1 :]
    return taken, ()
