"""Tasks that may be what kills their workers: nothing is taken in beside them for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tranship.worker._record import Run

__all__ = ["Suspects"]

OFTEN: Final = 3
"""Delivered this often, a task is suspected ..."""
ALONE: Final = 30.0
"""... for this many seconds: what kills does so soon, and a long task must not idle a worker."""


class Suspects:
    """Those that one worker runs. True while there are any.

    Args:
        acquitted: called when one is suspected no more.
    """

    def __init__(self, acquitted: Callable[[], None]) -> None:
        self._acquitted = acquitted
        self._runs: set[Run] = set()

    def __bool__(self) -> bool:
        return bool(self._runs)

    def look_at(self, run: Run) -> None:
        """Suspect ``run`` if it has been delivered too often."""
        if run.delivery.delivery_count >= OFTEN:
            self._runs.add(run)
            asyncio.get_running_loop().call_later(ALONE, self.acquit, run)

    def acquit(self, run: Run) -> None:
        """It has been put down for good (its end is stored: another's crash cannot undo it), or did no harm so far."""
        if run in self._runs:
            self._runs.remove(run)
            self._acquitted()
