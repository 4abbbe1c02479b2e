"""From a worker at work to the heartbeat that tells of it, of a bounded size."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from tranship import __version__, codec
from tranship.clocks import Clock
from tranship.ports import Heartbeat, QueueTotals, RunningTask
from tranship.worker._figures import Figures
from tranship.worker._profile import Profile
from tranship.worker._record import Run

__all__ = ["Presence"]

LARGEST: Final = 65_536
"""Bytes of JSON for the lists in a heartbeat, together; what its owner says has bounds of its own."""
_NOTE: Final = 200
"""Characters of what a handler says of its progress."""
_SHARES: Final = {"running": 0.45, "queues": 0.15, "tasks": 0.15, "hot_cache": 0.15, "totals": 0.1}
"""Of that, for each list."""


class Presence:
    """Of one worker at work.

    Args:
        name: the worker's.
        instance: something random.
        queues: returns what it consumes.
        tasks: names of what it can run.
        limit: returns how many tasks run at once, at most.
        profile: what its owner and its handlers say.
        clock: the broker's.
        runs: returns what runs.
        capacity: returns the free slots of each task type that has a limit of its own.
        totals: returns what was done of each queue, the busiest first.
        remembered: returns how many finished tasks are remembered at most, and how many were written down.
        namesakes: returns where others of its name are.
        room: the largest message in bytes.
    """

    def __init__(
        self,
        *,
        name: str,
        instance: str,
        queues: Callable[[], Sequence[str]],
        tasks: Collection[str],
        limit: Callable[[], int],
        profile: Profile,
        clock: Clock,
        runs: Callable[[], Sequence[Run]],
        capacity: Callable[[], Mapping[str, int]],
        totals: Callable[[], Mapping[str, QueueTotals]],
        remembered: Callable[[], tuple[int, int]],
        namesakes: Callable[[], Sequence[str]],
        room: int,
    ) -> None:
        self._name = name
        self._instance = instance
        self._queues = queues
        self._tasks = sorted(tasks)
        self._limit = limit
        self._profile = profile
        self._clock = clock
        self._runs = runs
        self._capacity = capacity
        self._totals = totals
        self._remembered = remembered
        self._namesakes = namesakes
        self._room = min(LARGEST, room // 2)
        self._figures = Figures()
        self._started_at = time.time()

    def beat(self, *, stopping: bool) -> Heartbeat:
        """Return what there is to say now."""
        runs, profile, queues, limit = self._runs(), self._profile, self._queues(), self._limit()
        totals, (remembers, remembered) = self._totals(), self._remembered()
        lists: dict[str, Iterable[Any]] = {
            "running": _oldest_first(runs),
            "queues": queues,
            "tasks": self._tasks,
            "hot_cache": profile.hot_cache,
            "totals": totals.items(),
        }
        sizes = {"running": len(runs), "queues": len(queues), "tasks": len(self._tasks)}
        sizes |= {"hot_cache": len(profile.hot_cache), "totals": len(totals)}
        told = {name: _fitting(items, self._room * _SHARES[name]) for name, items in lists.items()}
        return Heartbeat(
            worker=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            limit=limit,
            at=time.time(),
            stopping=stopping,
            ahead=self._clock.ahead,
            instance=self._instance,
            version=__version__,
            started_at=self._started_at,
            busy=len(runs),
            free=max(0, limit - len(runs)),
            capacity=self._capacity(),
            figures=self._figures.read(),
            skill_dependencies=profile.skill_dependencies,
            hot_skills=profile.hot_cache.hot(profile.skill_dependencies),
            labels=profile.labels,
            remembers=remembers,
            remembered=remembered,
            namesakes=self._namesakes(),
            left_out={name: sizes[name] - len(items) for name, items in told.items() if len(items) < sizes[name]},
            totals=dict(told.pop("totals")),
            **told,
        )


def _fitting(items: Iterable[Any], room: float) -> list[Any]:
    """Return as many of ``items`` as fit into ``room`` bytes of JSON."""
    told = []
    for one in items:
        room -= len(codec.dumps(_plain(one))) + 1
        if room < 0:
            break
        told.append(one)
    return told


def _plain(item: Any) -> Any:
    if isinstance(item, RunningTask):
        return asdict(item)
    return [item[0], asdict(item[1])] if isinstance(item, tuple) else item


def _oldest_first(runs: Sequence[Run]) -> Iterable[RunningTask]:
    """What has not begun yet comes last."""
    now, monotonic = time.time(), time.monotonic()
    for run in sorted(runs, key=lambda run: run.began or monotonic):
        if run.envelope is None:
            continue
        said = None if run.context is None else run.context.last_progress
        yield RunningTask(
            id=run.envelope.id,
            task=run.envelope.task,
            queue=run.envelope.queue,
            since=round(now - (monotonic - run.began), 3) if run.began else None,
            attempt=run.envelope.attempt,
            progress=None if said is None else said.share,
            note="" if said is None else said.message[:_NOTE],
        )
