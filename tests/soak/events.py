"""What the workers have written down, and what it proves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from soak import tasks
from soak.plan import KINDS


@dataclass(frozen=True)
class Event:
    """One line."""

    what: str
    kind: str
    task_id: str
    attempt: int
    at: float


@dataclass
class Seen:
    """What the events of all workers show.

    Attributes:
        workers: how many processes there were.
        deaths: how many of them have not ended in good order.
        runs: how many runs have started, by kind.
        most: the most that ran at once in one worker, by type, and ``all``.
        repeated: how many runs began once more in the same attempt after their worker's death.
        unexplained: how many did so although their worker was alive, or ended in good order.
        started: every id that has run.
    """

    workers: int = 0
    deaths: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    unexplained: list[str] = field(default_factory=list)
    started: set[str] = field(default_factory=set)


def read(directory: Path) -> Seen:
    """Sweep over the events of each process in the order in which they happened."""
    seen = Seen()
    runs: dict[tuple[str, int], list[tuple[float, bool]]] = defaultdict(list)
    """Of each attempt when it began, and whether its worker died."""
    for path in directory.iterdir():
        events = list(_events(path))
        died = events[-1].what != "end" if events else True
        seen.workers += 1
        seen.deaths += died
        _sweep(events, seen)
        for one in events:
            if one.what == "start":
                runs[one.task_id, one.attempt].append((one.at, died))
    for (task_id, _), starts in runs.items():
        seen.started.add(task_id)
        for _, died in sorted(starts)[:-1]:
            seen.repeated += died
            if not died:
                seen.unexplained.append(task_id)
    return seen


def _sweep(events: list[Event], seen: Seen) -> None:
    """Count what is between its start and its stop: whoever runs has its slot, so no more can be than there are."""
    now: Counter[str] = Counter()
    for one in events:
        if one.what not in ("start", "stop"):
            continue
        step = 1 if one.what == "start" else -1
        seen.runs[one.kind] += step > 0
        for group in (KINDS[one.kind].task.task_type or "", "all"):
            now[group] += step
            seen.most[group] = max(seen.most[group], now[group])


def _events(path: Path) -> Iterator[Event]:
    for line in path.read_text().splitlines():
        what, kind, task_id, attempt, at = line.split()
        yield Event(what, kind, task_id, int(attempt), float(at))


def exceeded(seen: Seen) -> dict[str, int]:
    """The types of which more ran at once than may, with how many."""
    limits = {**tasks.LIMITS, "all": tasks.CONCURRENCY}
    return {kind: seen.most[kind] for kind, limit in limits.items() if seen.most[kind] > limit}
