"""When a worker's process has done, or grown, enough, and another is to take its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tranship.cli._values import shown_size
from tranship.envelope import Ending
from tranship.errors import ConfigurationError
from tranship.worker._figures import process_memory

if TYPE_CHECKING:
    from tranship.worker import Worker
    from tranship.worker._record import Run

__all__ = ["DISMISSED", "RECYCLED", "Recycling"]

RECYCLED: Final = 75
"""The exit code of a process that has stopped for another to take its place."""
DISMISSED: Final = 76
"""The exit code of one that was told by remote control to stop: nobody takes its place."""


class Recycling:
    """Looks, each time a task has ended, whether it is time, and then stops the worker in good order.

    Args:
        worker: not at work yet.
        max_tasks: how many tasks it runs before; None: any number.
        max_memory: bytes that the process may occupy; None: any number.
        replaced: whether another process takes this one's place when it stops for that.

    Raises:
        ConfigurationError: the process has more already, or the system does not say how much it has.

    Attributes:
        due: whether it is time.
    """

    def __init__(self, worker: Worker, *, max_tasks: int | None, max_memory: int | None, replaced: bool) -> None:
        self._worker = worker
        self._max_tasks = max_tasks
        self._max_memory = max_memory
        self._tasks = 0
        self.due = False
        if max_memory is not None:
            _check(max_memory, process_memory())
        if max_tasks is not None or max_memory is not None:
            worker.on_task_end = self._ended
        if replaced:
            worker.on_restart = self._restart

    def _ended(self, run: Run) -> None:
        # What has been given back has not been run.
        self._tasks += run.outcome is not Ending.RELEASED
        if not self.due and (why := self._why()):
            self.due = True
            self._worker.stop(reason=f"{why}; another process takes its place")

    def _restart(self) -> bool:
        """Told by remote control to begin anew."""
        self.due = True
        self._worker.stop(reason="it is to begin anew; another process takes its place")
        return True

    def _why(self) -> str:
        if self._max_tasks is not None and self._tasks >= self._max_tasks:
            return f"{self._tasks} tasks have ended"
        if self._max_memory is not None and (memory := process_memory() or 0) > self._max_memory:
            return f"its process occupies {shown_size(memory)}"
        return ""


def _check(limit: int, memory: int | None) -> None:
    if memory is None:
        raise ConfigurationError("--max-memory-per-process: this system does not say how much memory a process has")
    if memory >= limit:
        raise ConfigurationError(
            f"--max-memory-per-process is {shown_size(limit)}, and a process occupies {shown_size(memory)} before it "
            "has run anything; give it more"
        )
