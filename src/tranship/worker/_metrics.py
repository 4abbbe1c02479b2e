"""What a worker has done, in numbers: counted where deliveries end, written in Prometheus' text format."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from tranship.envelope import Ending
from tranship.worker._figures import process_memory
from tranship.worker._record import Run

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds."""
UNKNOWN: Final = "(unknown)"
"""For tasks that the worker does not have: whoever can write to the broker must not choose names here without end."""
_BROKEN: Final = "broken"
"""The worker itself failed."""
_OUTCOMES: Final = (*(one.value for one in Ending if one is not Ending.HELD), _BROKEN)


class Metrics:
    """Of one worker; on its I/O loop.

    Args:
        tasks: names of the tasks it can run.
    """

    def __init__(self, tasks: Collection[str]) -> None:
        self._known = frozenset(tasks)
        # From the beginning, at 0: Prometheus sees no increase in a series that begins with its first event.
        self._outcomes = Counter({(name, outcome): 0 for name in (*self._known, UNKNOWN) for outcome in _OUTCOMES})
        self._durations = {name: _Durations() for name in sorted(self._known)}
        self._started_at = time.time()

    def ended(self, run: Run) -> None:
        """Count the end of one delivery."""
        if run.outcome is Ending.HELD or (run.outcome is Ending.RETRY and not run.started):
            # It came before its time: nothing has been tried.
            return
        name = self._name(run)
        self._outcomes[name, run.outcome.value if run.outcome is not None and not run.broken else _BROKEN] += 1
        if run.began and name in self._durations:
            self._durations[name].add(time.monotonic() - run.began)

    def text(
        self, *, labels: Mapping[str, str], gauges: Mapping[str, tuple[str, float]], running: Sequence[Run]
    ) -> str:
        """Return everything as Prometheus reads it.

        Args:
            labels: of the worker.
            gauges: name, help and value of what holds now.
            running: what runs.
        """
        return "".join([*self._lines(labels, gauges, running)])

    def _lines(
        self, labels: Mapping[str, str], gauges: Mapping[str, tuple[str, float]], running: Sequence[Run]
    ) -> Iterator[str]:
        yield from _family("tranship_worker_info", "gauge", "The worker.", [(labels, 1)])
        for name, (text, value) in gauges.items():
            yield from _family(name, "gauge", text, [({}, value)])
        now = Counter(map(self._name, running))
        rows = [({"task": name}, now[name]) for name in sorted({*self._known, *now})]
        yield from _family("tranship_tasks_running", "gauge", "Tasks that run now.", rows)
        ends = [({"task": name, "outcome": how}, count) for (name, how), count in sorted(self._outcomes.items())]
        yield from _family("tranship_tasks_total", "counter", "Deliveries by how they ended.", ends)
        yield from self._histogram()
        yield from self._process()

    def _histogram(self) -> Iterator[str]:
        name = "tranship_task_duration_seconds"
        yield from _head(name, "histogram", "How long handlers ran, their attempts one by one.")
        for task, durations in self._durations.items():
            for bound, count in durations.up_to():
                yield _sample(f"{name}_bucket", {"task": task, "le": bound}, count)
            yield _sample(f"{name}_sum", {"task": task}, durations.total)
            yield _sample(f"{name}_count", {"task": task}, durations.count)

    def _process(self) -> Iterator[str]:
        cpu = time.process_time()
        yield from _family("process_cpu_seconds_total", "counter", "CPU time of the process.", [({}, cpu)])
        started = self._started_at
        yield from _family("process_start_time_seconds", "gauge", "When the worker began to work.", [({}, started)])
        if (memory := process_memory()) is not None:
            yield from _family("process_resident_memory_bytes", "gauge", "Memory of the process.", [({}, memory)])

    def _name(self, run: Run) -> str:
        name = run.envelope.task if run.envelope is not None else UNKNOWN
        return name if name in self._known else UNKNOWN


class _Durations:
    """Those of one task."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        return sum(self._counts)

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def up_to(self) -> Iterator[tuple[str, int]]:
        yield from zip([*(f"{bound:g}" for bound in BUCKETS), "+Inf"], accumulate(self._counts), strict=True)


def _family(name: str, kind: str, text: str, samples: Collection[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield from _head(name, kind, text)
    for labels, value in samples:
        yield _sample(name, labels, value)


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}\n"
    yield f"# TYPE {name} {kind}\n"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{shown}}} {value}\n" if shown else f"{name} {value}\n"


def _escaped(text: str) -> str:
    # Half of a character, which a name from a message may have, is no UTF-8.
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return whole.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
