"""The delayed tasks of one link: what its clients have submitted themselves, and is not due yet.

A broker that cannot look into its delayed messages neither says that a task is scheduled nor ends one that has been
cancelled before it is due. Who has submitted it can do both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Final

from tranship.envelope import Envelope

__all__ = ["Delayed"]

KEPT: Final = 100_000
"""Tasks that are remembered; of more, those submitted first are forgotten."""
MARGIN: Final = 1.0
"""Seconds: what is due so soon may have been taken by a worker whose clock is ahead."""


class Delayed:
    """Ids of delayed tasks with their cancel keys and moments. May be used from any thread."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[float, str | None]] = {}
        self._lock = threading.Lock()

    def submitted(self, envelope: Envelope) -> None:
        """Remember a task that the broker has, if it is delayed and its result is kept."""
        if envelope.not_before is None or not envelope.keeps_result:
            return
        with self._lock:
            self._tasks[envelope.id] = (envelope.not_before, envelope.cancel_key)
            while len(self._tasks) > KEPT:
                del self._tasks[next(iter(self._tasks))]

    def is_waiting(self, task_id: str) -> bool:
        """Whether the task is known here, and not due yet."""
        known = self._tasks.get(task_id)
        return known is not None and known[0] > time.time()

    def take_cancelled(self, kind: str, values: Collection[str], expires: float) -> list[str]:
        """Forget the tasks that a cancel has ended, and return their ids.

        Args:
            kind: ``"id"`` or ``"key"``.
            values: the ids, or the cancel keys.
            expires: until when the cancel is remembered; what is due later will run.
        """
        first = time.time() + MARGIN
        with self._lock:
            ended = [
                task_id
                for task_id, (due, key) in self._tasks.items()
                if first < due < expires and (task_id if kind == "id" else key) in values
            ]
            for task_id in ended:
                del self._tasks[task_id]
        return ended
