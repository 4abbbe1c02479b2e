"""Every run of a task, from its start to its end, in one file for all workers of a fleet."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOG: Final = "MIXED_LOG"
"""Names the file, in the environment of the workers."""
SEAT: Final = "MIXED_SEAT"
"""Who the worker is: its kind, its number, and which of those that have sat there, as in ``celery-2.7``."""


@dataclass
class Run:
    """One run; ``ended`` is None where no end was written down."""

    seat: str
    pid: int
    started: float
    ended: float | None = None

    @property
    def kind(self) -> str:
        """``celery`` or ``tranship``."""
        return self.seat.partition("-")[0]


@contextlib.contextmanager
def noted(task_id: str) -> Iterator[None]:
    """Write down start and end of a run."""
    _note("start", task_id)
    yield
    _note("end", task_id)


def _note(what: str, task_id: str) -> None:
    # One short append, which no kill can cut and no other writer can divide.
    line = f"{what} {task_id} {os.environ[SEAT]} {os.getpid()} {time.time():.6f}\n"
    with Path(os.environ[LOG]).open("ab", buffering=0) as file:
        file.write(line.encode())


def read(path: Path) -> dict[str, list[Run]]:
    """Return the runs of each task, by its id, in the order of their starts."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for line in path.read_text().splitlines() if path.exists() else ():
        what, task_id, seat, pid, at = line.split()
        if what == "start":
            runs[task_id].append(Run(seat, int(pid), float(at)))
            continue
        open_ones = [one for one in runs[task_id] if (one.seat, one.pid, one.ended) == (seat, int(pid), None)]
        open_ones[-1].ended = float(at)
    return runs
