"""How much a worker has done, by queue: counted where deliveries end, told in its heartbeats."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from tranship.envelope import Ending
from tranship.ports import QueueTotals
from tranship.worker._record import Run

__all__ = ["Tally"]

MOST: Final = 1_000
"""Queues."""
_ENDED: Final = frozenset({Ending.SUCCEEDED, Ending.FAILED, Ending.DEAD, Ending.CANCELLED, Ending.EXPIRED})
_FAILED: Final = frozenset({Ending.FAILED, Ending.DEAD})


class Tally:
    """Of one worker; on its I/O loop."""

    def __init__(self) -> None:
        self._queues: dict[str, list[float]] = {}
        """By queue: ended, failed, retried, seconds."""

    def count(self, run: Run) -> None:
        """Count the end of one delivery."""
        outcome = run.outcome
        # Most end well, and the hash of an enum's member costs more than all the rest.
        if outcome is Ending.SUCCEEDED:
            counts = self._of(run.delivery.queue)
            counts[0] += 1
        elif outcome in _ENDED:
            counts = self._of(run.delivery.queue)
            counts[0] += 1
            counts[1] += outcome in _FAILED
        elif outcome is Ending.RETRY and run.started and not run.snoozed:
            counts = self._of(run.delivery.queue)
            counts[2] += 1
        else:
            # It was given back, came before its time, or had its result already: nothing was done.
            return
        if run.began:
            counts[3] += time.monotonic() - run.began

    def _of(self, queue: str) -> list[float]:
        found = self._queues.get(queue)
        if found is None:
            found = [0, 0, 0, 0.0]
            if len(self._queues) < MOST:
                self._queues[queue] = found
        return found

    def totals(self) -> Mapping[str, QueueTotals]:
        """Return what was counted; the busiest queue first."""
        rows = sorted(self._queues.items(), key=lambda row: -(row[1][0] + row[1][2]))
        return {name: _totals(*counts) for name, counts in rows}


def _totals(ended: float, failed: float, retried: float, seconds: float) -> QueueTotals:
    return QueueTotals(ended=int(ended), failed=int(failed), retried=int(retried), seconds=round(seconds, 3))
