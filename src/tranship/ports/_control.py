"""What goes through the control channel: cancels and commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CancelReport", "Command", "Signal", "SignalSink", "Tombstone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """A cancel that outlives everybody: of one task, or of all tasks with a key, until ``expires``."""

    kind: str
    """``"id"`` or ``"key"``."""
    value: str
    expires: float
    running: bool = True
    """Whether a task that runs already is stopped, too. Only a feed brings False: for Celery's plain revoke."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A live message to workers; nobody listening means lost."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    destination: Sequence[str] | None = None
    """Names of the workers it is for; None: all."""


Signal = Tombstone | Command
"""What a control feed brings."""
SignalSink = Callable[[Sequence[Signal]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReport:
    """What a cancel did at once; workers do the rest."""

    removed: Sequence[str] = ()
    """Ids of queued tasks that were removed, their CANCELLED results stored."""
