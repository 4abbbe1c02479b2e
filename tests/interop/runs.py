"""The run log: one line for each time a handler was started, by whoever ran it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

LOG = "INTEROP_LOG"
"""Names the file, in the environment of everything that runs handlers."""

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    id: str
    who: str
    """``celery`` or ``tranship``."""
    label: str
    at: float


def note(task_id: str, who: str, label: object) -> None:
    """Append a line; short appends of several processes do not mix."""
    with Path(os.environ[LOG]).open("ab", buffering=0) as log:
        log.write(f"{task_id} {who} {label} {time.time()}\n".encode())


def read(log: Path) -> list[Run]:
    """Everything that was started, in order."""
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [Run(task_id, who, label, float(at)) for task_id, who, label, at in lines]


def times(log: Path) -> Counter[str]:
    """How often each task was started, by id."""
    return Counter(run.id for run in read(log))


def until(condition: Callable[[], T], what: str, within: float = 30.0) -> T:
    """Look until ``condition`` is true and return what it gave; fail with ``what`` after ``within`` seconds."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {within:g} s"
        time.sleep(0.01)
    return found
