"""How much memory the submitter and a worker occupy while it goes on."""

from __future__ import annotations

import statistics
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

EVERY = 1.0
"""Seconds between two looks."""
ENOUGH = 60
"""Looks from which on a trend is one."""
SLACK, SHARE = 8.0, 0.10
"""How many megabytes, and how much of it, the last quarter may be above the second: what comes and goes."""


@dataclass(frozen=True)
class Trend:
    """What one process occupied: medians of the second quarter, which follows its warming up, and of the last, in MB."""

    before: float
    after: float
    samples: int

    @property
    def flat(self) -> bool:
        """Whether it has not grown. Too few looks show nothing."""
        return self.samples < ENOUGH or self.after <= self.before * (1 + SHARE) + SLACK

    def __str__(self) -> str:
        return f"{self.before:.1f} MB in the second quarter, {self.after:.1f} MB in the last ({self.samples} samples)"


class Memory:
    """Looks at processes, by name, again and again."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._samples: dict[str, list[float]] = {name: [] for name in pids}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="soak-memory")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def trends(self) -> dict[str, Trend]:
        """What each of them occupied."""
        return {name: trend(samples) for name, samples in self._samples.items()}

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            command = ["ps", "-o", "pid=,rss=", "-p", ",".join(map(str, self._pids.values()))]
            lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
            kilobytes = dict(line.split() for line in lines)
            for name, pid in self._pids.items():
                if (found := kilobytes.get(str(pid))) is not None:
                    self._samples[name].append(int(found) / 1024)


def trend(samples: list[float]) -> Trend:
    """Compare the second quarter with the last."""
    quarter = len(samples) // 4
    if not quarter:
        only = statistics.median(samples) if samples else 0.0
        return Trend(only, only, len(samples))
    return Trend(statistics.median(samples[quarter : 2 * quarter]), statistics.median(samples[-quarter:]), len(samples))
