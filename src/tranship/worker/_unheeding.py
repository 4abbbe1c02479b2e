"""Who was told to stop, and goes on: an ``async def`` handler that swallows its cancellation is named."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from tranship.worker._record import Run

__all__ = ["Unheeding"]

log = logging.getLogger("tranship.worker")

PATIENCE: Final = 5.0
"""Seconds that a handler which was told to stop gets for its clean-up without a word."""


class Unheeding:
    """Of one worker; looked at from one thread."""

    def __init__(self) -> None:
        self._since: dict[Run, float] = {}
        """When each that was told to stop was first seen; infinite: it has been named."""

    def look(self, runs: Sequence[Run], now: float) -> None:
        """Name those of ``runs`` that were told to stop long ago.

        Args:
            runs: what runs.
            now: by the monotonic clock.
        """
        self._since = {run: self._since.get(run, now) for run in runs if _is_told(run, now)}
        for run, since in self._since.items():
            if now - since > PATIENCE:
                self._since[run] = float("inf")
                _name(run)


def _is_told(run: Run, now: float) -> bool:
    # What threads and processes do is said elsewhere.
    if not run.began or run.outcome is not None or run.thread_busy is not None or run.isolated is not None:
        return False
    return run.stopped is not None or (run.limit is not None and now > run.began + run.limit)


def _name(run: Run) -> None:
    why = (run.stopped or run.limit_means).value
    log.warning(
        "task %s (%s) was told to stop (%s) and goes on: its handler swallows CancelledError, or cleans up for long; "
        "it keeps its slot until it returns",
        run.id,
        run.envelope and run.envelope.task,
        why,
    )
