"""What goes through the control channel: cancels, commands, and what programs of another system ask and are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["ONLOOKER", "CancelReport", "Command", "Panel", "PeerEvent", "Signal", "SignalSink", "Tombstone"]

ONLOOKER: Final = ""
"""The name under which somebody listens who is no worker: programs of another system do not get to see him."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """A cancel that outlives everybody: of one task, or of all tasks with a key, until ``expires``."""

    kind: str
    """``"id"`` or ``"key"``; only a feed brings ``"stamp"``, a peer's mark on a task, as ``name=stamp``."""
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
    """Names of the workers it is for, or :data:`ONLOOKER` for all who are none; None: all."""


Signal = Tombstone | Command
"""What a control feed brings."""
SignalSink = Callable[[Sequence[Signal]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReport:
    """What a cancel did at once; workers do the rest."""

    removed: Sequence[str] = ()
    """Ids of queued tasks that were removed, their CANCELLED results stored."""


Panel = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Does what a program of another system commands, or asks for, by its own name for it, with its arguments; returns the
answer, as plain data. What it raises is answered as well: KeyError of the name for a command that it does not know."""


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """Something that has happened, for programs of another system that look on."""

    kind: str
    """Such as ``"task-succeeded"``: what comes before the dash is its group."""
    fields: Mapping[str, Any]
    """What is said of it: plain data."""
    at: float
    """When it happened, in epoch seconds."""
