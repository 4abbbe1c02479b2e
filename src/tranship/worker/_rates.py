"""Limits by time: how many tasks of a name may start per second here.

What comes too soon waits here for its turn if that is near, and else goes back on the schedule. A queue whose tasks all
wait for a turn is left alone, so that its tasks stay with the broker, for others to take.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from tranship.envelope import Ending
from tranship.task import Task
from tranship.worker._record import Run

__all__ = ["RateLimits"]

NEAR: Final = 1.0
"""Seconds for which a task may wait here; its slot is taken meanwhile."""
FARTHEST: Final = 60.0
"""Seconds after which a task that was put back comes again, at the most."""


class _Pace:
    """That of one task."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.next_at = 0.0
        """When the next may start, by the loop's clock."""
        self.kept: collections.deque[Run] = collections.deque()
        """What waits here, in order."""
        self.its_turn: Run | None = None
        self.returns_at = 0.0
        """When the last that was put back comes again."""
        self.timer: asyncio.TimerHandle | None = None

    @property
    def interval(self) -> float:
        """Seconds between two starts."""
        return 1.0 / self.per_second

    def wait(self, now: float) -> float:
        """Seconds until one that comes ``now`` would have its turn."""
        return max(0.0, self.next_at - now) + len(self.kept) * self.interval


class RateLimits:
    """Those of one worker at work, on its I/O loop.

    Args:
        tasks: the worker's, by name.
        go_on: called with what has waited here, when it may start.
        opened: called when a queue that was to be left alone need not be any more.
        delays: whether the broker has a schedule to put something back on.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        *,
        go_on: Callable[[Run], None],
        opened: Callable[[], None],
        delays: bool,
    ) -> None:
        self._tasks = tasks
        self._go_on = go_on
        self._opened = opened
        self._delays = delays
        self._paces: dict[str, _Pace] = {}
        self._loop = asyncio.get_running_loop()

    def set(self, task: str, per_second: float | None) -> None:
        """Have no more of ``task`` start per second from now on; None: as many as there are."""
        before = self._paces.pop(task, None)
        if per_second is not None:
            pace = self._paces[task] = _Pace(per_second)
            if before is not None:
                pace.next_at = min(before.next_at, self._loop.time() + pace.interval)
        if before is not None:
            if before.timer is not None:
                before.timer.cancel()
            for run in before.kept:
                self._go_on(run)
        self._opened()

    def of(self, task: str) -> float | None:
        """How many of ``task`` may start per second; None: as many as there are."""
        pace = self._paces.get(task)
        return None if pace is None else pace.per_second

    # What to fetch.

    def full_queues(self, queues: Sequence[str]) -> frozenset[str]:
        """Those of ``queues`` whose tasks all wait for a turn."""
        waiting = {name for name, pace in self._paces.items() if pace.kept}
        if not waiting:
            return frozenset()
        return frozenset(queue for queue in queues if waiting.issuperset(self._names(queue)))

    def _names(self, queue: str) -> Collection[str]:
        declared = [name for name, one in self._tasks.items() if one.options_set.queue == queue]
        # A queue that no task declares may bring any of them.
        return declared or self._tasks.keys()

    # One delivery.

    def admit(self, run: Run) -> bool:
        """Whether ``run``, which has been decoded, may start now: then it has had its turn."""
        pace = self._pace(run)
        if pace is None:
            return True
        if pace.its_turn is run:
            pace.its_turn = None
            return True
        now = self._loop.time()
        if pace.kept or now < pace.next_at:
            return False
        pace.next_at = now + pace.interval
        return True

    def put_back(self, run: Run) -> bool:
        """Decide that ``run``, which may not start, goes back to the broker for a while, as the same attempt.

        False: it is to be kept. Its turn is near; or back on the schedule its deliveries would be counted anew.
        """
        pace = self._pace(run)
        assert pace is not None
        now = self._loop.time()
        wait = pace.wait(now)
        if wait <= NEAR or not self._delays or run.delivery.delivery_count > 1:
            return False
        # Those that are put back come again one by one, when it may be their turn.
        pace.returns_at = min(max(now + wait, pace.returns_at + pace.interval), now + FARTHEST)
        run.delay = pace.returns_at - now
        run.detail = f"only {pace.per_second:g} of them may start per second here"
        run.end(Ending.RETRY)
        return True

    def keep(self, run: Run) -> None:
        """Let ``run`` wait here for its turn."""
        pace = self._pace(run)
        assert pace is not None
        pace.kept.append(run)
        self._set_timer(pace)

    @property
    def kept(self) -> list[Run]:
        """What waits here."""
        return [run for pace in self._paces.values() for run in pace.kept]

    def forget(self, run: Run) -> bool:
        """Whether ``run`` was waiting here; it does no longer."""
        pace = self._pace(run)
        if pace is None or run not in pace.kept:
            return False
        pace.kept.remove(run)
        return True

    def _pace(self, run: Run) -> _Pace | None:
        return None if run.task is None else self._paces.get(run.task.name)

    def _set_timer(self, pace: _Pace) -> None:
        if pace.timer is None:
            pace.timer = self._loop.call_at(pace.next_at, self._turn, pace)

    def _turn(self, pace: _Pace) -> None:
        pace.timer = None
        if not pace.kept:
            self._opened()
            return
        run = pace.its_turn = pace.kept.popleft()
        pace.next_at = self._loop.time() + pace.interval
        # First: it is asked for again when there is room for one more of them.
        self._set_timer(pace)
        self._go_on(run)
        if not pace.kept:
            self._opened()
