"""What a plan is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tranship.envelope import Envelope, ErrorInfo, TaskState
from tranship.ports import ChordPart, ChordStart
from tranship.protocol import Signature

__all__ = ["Ended", "Fate", "Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task that counts for a chord has ended."""

    group_id: str
    part: ChordPart
    body: Mapping[str, Any]
    """The signature of what follows the chord, as it was received."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """A task that will never run, because what came before it has failed."""

    task_id: str
    state: TaskState
    error: ErrorInfo
    group_id: str | None = None
    reply_to: str | None = None


@dataclass(slots=True)
class Plan:
    """What is to be done once a task has ended, in this order."""

    chords: list[ChordStart] = field(default_factory=list)
    """To be noted before any of their members is sent."""
    envelopes: list[Envelope] = field(default_factory=list)
    """To be sent."""
    fates: list[Fate] = field(default_factory=list)
    """Results to be written."""
    parts: list[Ended] = field(default_factory=list)
    """To be counted."""
    calls: list[tuple[Signature, ErrorInfo]] = field(default_factory=list)
    """Errbacks that want the error itself."""
    children: list[Any] = field(default_factory=list)
    """What was sent, as Celery writes it into the result document."""
