"""What is in the queues, as an inspector tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from tranship.envelope import Priority
from tranship.ports._protocols import Backend

__all__ = ["QueueInfo", "QueuedTask", "numbers_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """One queue as the broker sees it; None where it cannot tell."""

    name: str
    """The queue, without the namespace."""
    ready: Mapping[Priority, int]
    """How many tasks could be taken now, by level."""
    delayed: int | None = None
    """How many are not due."""
    in_flight: int | None = None
    """How many are in somebody's hands."""
    oldest_age: float | None = None
    """Seconds since the oldest ready task was submitted; 0.0 when none is ready."""
    dead: int | None = None
    """How many dead letters it has; a driver leaves it out, because the kit counts them."""


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


class Numbered(Backend, Protocol):
    """A backend to whose queues Celery's programs send, too, with numbers for priorities."""

    def numbered(self) -> Sequence[Priority]:
        """The level of each number, from 0 up; none where they mean nothing."""


def numbers_of(backend: Backend) -> Sequence[Priority]:
    """Return the level of each of Celery's numbers for a priority, from 0 up; none: they mean nothing there."""
    return cast("Numbered", backend).numbered() if hasattr(backend, "numbered") else ()
