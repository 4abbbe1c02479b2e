"""Limits by type of task: how many of a type run at once, which queues are left alone, what is put back.

A queue whose tasks are all of limited types belongs to them: while those types are full it is not asked, so their
tasks stay with the broker, for others to take. What comes too much from any other queue is put back on the schedule.
"""

from __future__ import annotations

import collections
import difflib
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from tranship.checks import mapping, name_text, whole
from tranship.envelope import Ending
from tranship.errors import InvalidOptionError
from tranship.task import Task
from tranship.worker._record import Run

__all__ = ["TypeLimits", "checked_limits"]

FIRST_DELAY: Final = 0.2
LONGEST_DELAY: Final = 2.0
"""Seconds after which a task that was put back comes again, at the least: more with each one until a slot is free."""
PACE: Final = 0.02
"""Seconds between two that come back: a long queue of them keeps neither worker nor broker busy."""
FARTHEST: Final = 60.0
"""Seconds after which a task that was put back comes again, at the most."""
GROWTH: Final = 1.5


def checked_limits(limits: Any, tasks: Mapping[str, Task[..., Any]]) -> dict[str, int]:
    """Return ``limits`` of a worker with ``tasks``; None: there are none.

    Raises:
        InvalidOptionError: it is no mapping of types to whole numbers from 1 on, or no task has such a type.
    """
    known = sorted({one.task_type for one in tasks.values() if one.task_type is not None})
    checked: dict[str, int] = {}
    for name, limit in mapping("task_type_limits", {} if limits is None else limits).items():
        checked[name_text("a name in task_type_limits", name)] = whole(f"task_type_limits[{name!r}]", limit)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidOptionError(
                f"task_type_limits has {name!r}, and no task of this worker is of that type{guess} "
                f"(types: {', '.join(known) or 'none; give one with @task(task_type=...)'})",
                option="task_type_limits",
            )
    return checked


class TypeLimits:
    """Those of one worker at work. Used on the I/O loop; :meth:`capacity` on any thread.

    Args:
        limits: how many of each type may run at once; see :func:`checked_limits`.
        tasks: the worker's, by name.
        queues: what it consumes.
        delays: whether the broker has a schedule to put something back on.

    Attributes:
        shared: each limited type whose queue is not its own, with the queues it shares with tasks of other types.
    """

    def __init__(
        self, limits: Mapping[str, int], tasks: Mapping[str, Task[..., Any]], queues: Sequence[str], *, delays: bool
    ) -> None:
        self._given = limits
        self._limits = dict(limits)
        """Those that hold now: none of a type that is paused."""
        self._tasks = tasks
        self._queues = queues
        self._delays = delays
        self._running = collections.Counter[str]()
        self._slots: dict[Run, str] = {}
        """Which type a delivery has a slot of."""
        self._kept: dict[Run, str] = {}
        """What waits here for a slot of its type, in order."""
        self._owned: dict[str, frozenset[str]] = {}
        """Queues whose tasks are all of limited types, with these types."""
        self.shared: dict[str, list[str]] = {}
        self._look_at(queues)
        self._delay = FIRST_DELAY
        self._last_return = 0.0

    def _look_at(self, queues: Sequence[str]) -> None:
        for queue in queues:
            self._look_at_one(queue)

    def _look_at_one(self, queue: str) -> None:
        # A queue that no task declares may bring any of them.
        tasks = self._tasks.values()
        declared = [one for one in tasks if one.options_set.queue == queue] or list(tasks)
        types = {one.task_type for one in declared}
        limited = sorted(one for one in types if one in self._limits and one is not None)
        if len(limited) == len(types):
            self._owned[queue] = frozenset(limited)
        if len(types) > 1:
            for kind in limited:
                self.shared.setdefault(kind, []).append(queue)

    def add_queue(self, queue: str) -> None:
        """The worker consumes one more."""
        self._queues = (*self._queues, queue)
        self._look_at_one(queue)

    def pause(self, kind: str) -> None:
        """Let no more of a type start, until :meth:`resume`; what runs goes on."""
        self._limit({**self._limits, kind: 0})

    def resume(self, kind: str) -> list[Run]:
        """Let as many of a type run at once as before; return what waits here for it, which waits no longer."""
        limits = {name: limit for name, limit in self._limits.items() if name != kind}
        self._limit({**limits, kind: self._given[kind]} if kind in self._given else limits)
        freed = [run for run, waits_for in self._kept.items() if waits_for == kind]
        for run in freed:
            del self._kept[run]
        return freed

    @property
    def paused(self) -> list[str]:
        """The types that are paused."""
        return sorted(kind for kind, limit in self._limits.items() if not limit)

    def _limit(self, limits: dict[str, int]) -> None:
        self._limits = limits
        self._owned, self.shared = {}, {}
        self._look_at(self._queues)

    def capacity(self) -> dict[str, int]:
        """How many more of each limited type may run now."""
        return {kind: self._left(kind) for kind in list(self._limits)}

    # What to fetch.

    def room(self, free: int) -> int:
        """How many of ``free`` slots a receive may fill that leaves :meth:`full_queues` alone."""
        rooms = [room for room in map(self._room_of, self._owned.values()) if room]
        all_full = len(self._owned) == len(self._queues) and not rooms
        return 0 if all_full else min(free, *rooms) if rooms else free

    def full_queues(self) -> frozenset[str]:
        """The queues whose tasks could not run now."""
        return frozenset(queue for queue, types in self._owned.items() if not self._room_of(types))

    def _room_of(self, types: Collection[str]) -> int:
        return sum(map(self._left, types))

    def _left(self, kind: str) -> int:
        # More may run than may now: its type was paused meanwhile.
        return max(0, self._limits.get(kind, 0) - self._running[kind])

    # One delivery.

    def expect(self, run: Run) -> None:
        """What comes from a queue of one type has its slot from then on: reading it may take a while."""
        types = self._owned.get(run.delivery.queue, ())
        if len(types) == 1:
            self._claim(run, *types)

    def admit(self, run: Run) -> bool:
        """Whether ``run``, which has been decoded, may start now. Its slot is its own until :meth:`free`."""
        kind = _type_of(run)
        claimed = self._slots.get(run)
        if claimed is not None and claimed != kind:
            # Submitted to the queue of another type.
            self.free(run)
        return kind not in self._limits or claimed == kind or self._claim(run, kind)

    def put_back(self, run: Run) -> bool:
        """Decide that ``run``, which may not start, goes back to the broker for a while, as the same attempt.

        False: it has to be kept: back on the schedule its deliveries would be counted from the beginning.
        """
        if not self._delays or run.delivery.delivery_count > 1:
            return False
        kind = _type_of(run)
        run.delay = self._next_delay()
        limit = self._limits[kind]
        run.detail = (
            f"{limit} tasks of type {kind!r} run here, which is the limit" if limit else f"type {kind!r} is paused"
        )
        run.end(Ending.RETRY)
        return True

    def keep(self, run: Run) -> None:
        """Let ``run`` wait here until :meth:`next` names it, or :meth:`forget`."""
        self._kept[run] = _type_of(run)

    @property
    def kept(self) -> list[Run]:
        """What waits here."""
        return list(self._kept)

    def forget(self, run: Run) -> bool:
        """Whether ``run`` was waiting here; it does no longer."""
        return self._kept.pop(run, None) is not None

    def free(self, run: Run) -> str | None:
        """Give the slot of ``run`` back, if it has one; return its type, if that was full."""
        kind = self._slots.pop(run, None)
        if kind is None:
            return None
        self._running[kind] -= 1
        self._delay = FIRST_DELAY
        return kind if self._running[kind] + 1 == self._limits.get(kind) else None

    def next(self, kind: str) -> Run | None:
        """The first that waits here for a slot of type ``kind``; it does no longer."""
        run = next((run for run, waits_for in self._kept.items() if waits_for == kind), None)
        if run is not None:
            del self._kept[run]
        return run

    def _claim(self, run: Run, kind: str) -> bool:
        if self._running[kind] >= self._limits[kind]:
            return False
        self._running[kind] += 1
        self._slots[run] = kind
        return True

    def _next_delay(self) -> float:
        now = time.monotonic()
        self._last_return = max(now + self._delay, min(self._last_return + PACE, now + FARTHEST))
        self._delay = min(self._delay * GROWTH, LONGEST_DELAY)
        return self._last_return - now


def _type_of(run: Run) -> str:
    assert run.task is not None
    # The empty text is no type: no name is empty.
    return run.task.task_type or ""
