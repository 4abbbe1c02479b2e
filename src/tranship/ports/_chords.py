"""Chords in progress: how many parts of a header have ended, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from tranship.ports._protocols import Backend

__all__ = ["ChordCount", "ChordPart", "ChordStart", "ChordStore", "KeepsChords", "own_chords_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChordStart:
    """A chord whose header is about to be sent."""

    group_id: str
    size: int
    """How many parts it waits for."""
    tree: list[Any] | None = None
    """The results of its header as Celery writes them, where a member has several; None: one each, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChordPart:
    """A task that counts for a chord, and how it ended."""

    task_id: str
    index: int | None
    """Its place among the results; None: at the end."""
    status: str
    """Celery's word: ``SUCCESS``, ``FAILURE`` or ``REVOKED``."""
    value: Any
    """Its result; of a failure Celery's map of the exception."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChordCount:
    """What is known of a chord once a part was counted."""

    known: bool = True
    """Whether anybody has said how many parts there are. False: not yet, or not any more."""
    parts: Sequence[ChordPart] | None = None
    """All of them, in the order of their results, where this one has completed it: its body is ours to send. None: it
    is not complete, or somebody else sends the body."""
    tree: list[Any] | None = None
    """As it was given at the start."""
    claimed: bool = False
    """Whether all parts are there, and somebody else is about to send the body; if he dies, it is never sent, unless
    the part is counted again once his claim has ended."""


class ChordStore(Protocol):
    """Counts parts of chords.

    All methods: Concurrency: yes. Cancelled: done or not; safe to repeat. Retry: never. Errors: BrokerUnreachable,
    StorageFull, MalformedMessage where somebody else has written what is there. Closed: ClosedError.
    """

    async def start(self, chord: ChordStart) -> None:
        """Note a chord, before any of its tasks is sent. Again: nothing changes."""

    async def count(self, group_id: str, part: ChordPart) -> ChordCount:
        """Count a part, once however often it is told. Who completes a chord is told so, again as well, until it is
        :meth:`finish`-ed [chord_body_runs_once].
        """

    async def finish(self, group_id: str, part: ChordPart) -> None:
        """The body has been sent, or given up, by who was told that ``part`` completed the chord: forget it."""

    async def is_known(self, group_id: str) -> bool:
        """Whether anybody has said how many parts there are, or it is finished."""


class KeepsChords(Backend, Protocol):
    """A backend whose result store may count chords by itself, where others count with it."""

    def chords(self) -> ChordStore | None:
        """Return what counts; None: nothing of its own, and chords are counted in records, where it has RECORDS."""


def own_chords_of(backend: Backend) -> ChordStore | None:
    """Return what counts chords there for others, too; None: nothing does."""
    return cast("KeepsChords", backend).chords() if hasattr(backend, "chords") else None
