"""How long tasks wait and run: percentiles, of the attempts that a history has."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tranship.finished import Finished
from tranship.operations._history import History

__all__ = ["Percentiles", "TaskLatency", "latencies", "percentiles", "run_times", "waited"]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of several figures, in seconds; each is one that was measured."""

    p50: float
    """What half of them are at most."""
    p95: float
    """What 95 of 100 are at most."""
    p99: float
    """What 99 of 100 are at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLatency:
    """How long the attempts of one task took."""

    task: str
    """Its name."""
    attempts: int
    """How many are known."""
    failed: int
    """How many of them failed, whatever followed."""
    since: float
    """When the first of them ended, in epoch seconds."""
    run: Percentiles | None
    """How long its handler ran; None: it never did."""
    wait: Percentiles | None
    """From when it could have begun until it began; None: not known of any."""


def percentiles(seconds: Iterable[float | None]) -> Percentiles | None:
    """Return the percentiles of several figures; None: none is known."""
    known = sorted(one for one in seconds if one is not None)
    return Percentiles(*(known[math.ceil(part * len(known)) - 1] for part in (0.50, 0.95, 0.99))) if known else None


def latencies(history: History, *, seconds: float = math.inf) -> list[TaskLatency]:
    """Return how long tasks took, by name, those with the most attempts first.

    Args:
        history: what was read with :meth:`Operator.read_history`.
        seconds: leave out what ended longer ago.
    """
    since, by_task = time.time() - seconds, dict[str, list[Finished]]()
    for one in history.latest():
        if one.at < since:
            break
        by_task.setdefault(one.task, []).append(one)
    found = [_latency(history, task, attempts) for task, attempts in by_task.items()]
    return sorted(found, key=lambda one: (-one.attempts, one.task))


def run_times(history: History) -> dict[str, Percentiles]:
    """Return how long handlers ran, by queue; queues of which no attempt is known are left out.

    Args:
        history: as :func:`latencies` takes it.
    """
    by_queue: dict[str, list[float | None]] = {}
    for one in history.latest():
        by_queue.setdefault(one.queue, []).append(one.seconds)
    return {queue: found for queue, ran in by_queue.items() if (found := percentiles(ran)) is not None}


def _latency(history: History, task: str, attempts: Sequence[Finished]) -> TaskLatency:
    return TaskLatency(
        task=task,
        attempts=len(attempts),
        failed=sum(one.outcome in ("failed", "retry", "dead") for one in attempts),
        since=attempts[-1].at,
        run=percentiles(one.seconds for one in attempts),
        wait=percentiles(waited(history, one) for one in attempts),
    )


def waited(history: History, one: Finished) -> float | None:
    """Return for how many seconds an attempt waited until its handler began; None: not known.

    A step of a workflow waits from when the one before it has ended. A first attempt that ``history`` knows another run
    of was replayed, nobody knows when.
    """
    if one.due is None or one.seconds is None:
        return None
    due, began = one.due, one.at - one.seconds
    if one.attempt == 0 and history.attempts(one.id)[:1] not in ([], [one]):
        return None
    if one.parent_id is not None and one.attempt == 0:
        parent = history.attempts(one.parent_id)
        if not parent:
            return None
        # The ids of steps are made before the first of them runs, those of what a task submits while it does.
        if due < parent[-1].at - (parent[-1].seconds or 0.0):
            due = parent[-1].at
    return max(0.0, began - due)
