"""Tasks whose clients are not ours: what they ask beside their arguments, and the words they expect for an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tranship.envelope import Ending, Envelope, ErrorInfo
from tranship.task._context import TaskContext

__all__ = ["Dialect", "Heed"]

Heed = Callable[[str], Awaitable[bool]]
"""Has a cancel of this key reach the task from now on; whether it has been cancelled already."""


class Dialect(Protocol):
    """How one task is answered. A worker calls it on its own loop; it is not to block."""

    async def admit(self, context: TaskContext, heed: Heed) -> Any:
        """Return the answer that needs no handler; None: call the handler.

        What it raises counts as raised by the handler.
        """

    def conclude(self, envelope: Envelope, outcome: Ending, error: ErrorInfo) -> Any:
        """Return what is stored, as a success, for a task that did not succeed; None: the failure as it is.

        Args:
            envelope: the task.
            outcome: how its last attempt ended: FAILED, CANCELLED, EXPIRED, or DEAD (it becomes a dead letter, too).
            error: why.
        """
