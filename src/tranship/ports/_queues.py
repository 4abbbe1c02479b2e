"""What is in the queues, as an inspector tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tranship.envelope import Priority

__all__ = ["QueueInfo", "QueuedTask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """One queue as the broker sees it; None where it cannot tell."""

    name: str
    ready: Mapping[Priority, int]
    delayed: int | None = None
    in_flight: int | None = None
    oldest_age: float | None = None
    """Seconds since the oldest ready task was submitted; 0.0 when none is ready."""
    dead: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedTask:
    """One task that no worker has, as it was submitted."""

    id: str
    queue: str
    priority: Priority
    state: Literal["ready", "delayed"]
    """Whether a worker may take it now, or it waits for its time."""
    task: str | None = None
    """Its name; None: whoever wrote the message did not say."""
    attempt: int = 0
    """Attempts before the one that it waits for."""
    cancel_key: str | None = None
