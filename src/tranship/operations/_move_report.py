"""What a move says of itself: while it runs, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tranship.errors import TranshipError

__all__ = ["MoveProgress", "MoveReport", "MovedQueue", "Refusal", "Tally", "Watcher"]

LISTED = 100
"""Refusals that are kept with their reason; all of them are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A message that was not moved."""

    task_id: str | None
    queue: str
    reason: str
    """A stable word: an error's code in lower case, ``"malformed"``, ``"dedup-key"``, ``"cancelled"``, ``"known"``."""
    detail: str


@dataclass(slots=True, kw_only=True)
class MovedQueue:
    """One queue of a move. Counts are of messages; None where the broker cannot tell."""

    name: str
    ready: int | None = None
    """How many waited at the source when it began."""
    delayed: int | None = None
    in_flight: int | None = None
    """How many were held there, by workers or by an earlier move that was killed."""
    dead: int | None = None
    moved: int = 0
    """Confirmed by the target, then removed at the source."""
    already_there: int = 0
    """Removed at the source, because the target had them: from a move that was interrupted, or a second copy."""
    refused: int = 0
    """Not taken by the target; they stay at the source unless :attr:`dead_lettered`."""
    dead_lettered: int = 0
    """Those of them that went to the source's dead letters."""
    dead_moved: int = 0
    """Dead letters that are among the target's dead letters now."""
    left: int | None = None
    """How many are at the source when it ends: ready, delayed and in flight."""
    dead_left: int | None = None

    @property
    def before(self) -> int | None:
        """How many were at the source when it began: ready, delayed and in flight."""
        return total([self.ready, self.delayed or 0, self.in_flight or 0])


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReport:
    """What became of a move. It reconciles: :attr:`before` is moved, already there, dead-lettered and left together,
    but for what workers and clients did at the source meanwhile (:attr:`by_others`).
    """

    source: str
    """Without secrets, as everywhere."""
    target: str
    queues: Sequence[MovedQueue]
    refusals: Sequence[Refusal] = ()
    """The first hundred."""
    repeated: int = 0
    """Messages submitted a second time because the answer was lost, to a target that cannot tell: at most so many
    are there twice."""
    contested: int = 0
    """Messages that the target has and that the source gave to somebody else as well, our lease having ended: they
    may run twice."""
    reappeared: int = 0
    """Messages that the source brought again, having forgotten in a crash that they were removed; they were removed
    once more, and are counted once."""
    cancels: int = 0
    """Cancels of the source that were repeated at the target."""
    warnings: Sequence[str] = ()
    dry_run: bool = False
    stopped: bool = False
    """It was asked to stop: there may be more to move."""
    error: TranshipError | None = None
    """What ended it early."""
    seconds: float = 0.0

    @property
    def before(self) -> int | None:
        """How many messages were at the source when it began; None: it cannot tell."""
        return total([queue.before for queue in self.queues])

    @property
    def moved(self) -> int:
        """How many the target confirmed."""
        return sum(queue.moved for queue in self.queues)

    @property
    def already_there(self) -> int:
        """How many the target had already."""
        return sum(queue.already_there for queue in self.queues)

    @property
    def refused(self) -> int:
        """How many were refused."""
        return sum(queue.refused for queue in self.queues)

    @property
    def dead_lettered(self) -> int:
        """How many of the refused went to the source's dead letters."""
        return sum(queue.dead_lettered for queue in self.queues)

    @property
    def dead_moved(self) -> int:
        """How many dead letters were moved."""
        return sum(queue.dead_moved for queue in self.queues)

    @property
    def left(self) -> int | None:
        """How many messages are at the source when it ends; None: it cannot tell."""
        return total([queue.left for queue in self.queues])

    @property
    def by_others(self) -> int | None:
        """How many more workers took away at the source than clients added; negative: the other way round."""
        if self.before is None or self.left is None or self.dry_run:
            return None
        return self.before - self.moved - self.already_there - self.dead_lettered - self.left


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveProgress:
    """How far a move has come."""

    done: int
    """Messages that need no more work: moved, already there, refused."""
    total: int | None
    """How many there were when it began, or the limit; None: not known."""
    moved: int
    already_there: int
    refused: int
    note: str = ""
    """What it waits for, if it does."""


Watcher = Callable[[MoveProgress], None]
"""Called after each step, on the loop of the move."""


@dataclass(slots=True)
class Tally:
    """Mutable state: the counts of a move while it runs."""

    queues: Mapping[str, MovedQueue]
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    repeated: int = 0
    contested: int = 0
    reappeared: int = 0
    cancels: int = 0

    def refuse(self, refusal: Refusal) -> None:
        """Count a message that was not moved."""
        self.queues[refusal.queue].refused += 1
        if len(self.refusals) < LISTED:
            self.refusals.append(refusal)

    def progress(self, expected: int | None, note: str = "") -> MoveProgress:
        """How far it has come."""
        parts = self.queues.values()
        moved = sum(one.moved for one in parts)
        there, refused = sum(one.already_there for one in parts), sum(one.refused for one in parts)
        done = moved + there + refused
        return MoveProgress(done=done, total=expected, moved=moved, already_there=there, refused=refused, note=note)


def total(counts: Sequence[int | None]) -> int | None:
    """Return the sum, or None if one of them is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
