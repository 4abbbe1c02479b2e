"""Processes that are started, killed and replaced."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from tranship.testing.process import Child

TESTS = Path(__file__).parent.parent
SOURCES = Path(sys.modules[Child.__module__].__file__ or "").parents[2]


def spawn(module: str, *arguments: str, **options) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` with the sources and the tests on its path."""
    path = os.pathsep.join([str(TESTS), str(SOURCES)])
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], env={**os.environ, "PYTHONPATH": path}, **options
    )


class Fleet:
    """Worker processes; whichever dies is replaced."""

    def __init__(self, url: str, log: Path, *, workers: int, concurrency: int, max_deliveries: int = 5) -> None:
        self.kills = 0
        self.deaths = 0
        self._log = log
        self._arguments = (url, str(log), str(concurrency), str(max_deliveries))
        self._workers: list[subprocess.Popen[bytes]] = []
        self._size = workers

    def __enter__(self) -> Self:
        self._log.touch()
        self._workers = [self._spawn() for _ in range(self._size)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.wait()

    def kill_one(self) -> None:
        """SIGKILL to any of them, and a new one in its place."""
        index = random.randrange(len(self._workers))
        self._workers[index].kill()
        self._workers[index].wait()
        self.kills += 1
        self._workers[index] = self._spawn()

    def replace_dead(self) -> None:
        """A new one for each that has died by itself."""
        for index, worker in enumerate(self._workers):
            if worker.poll() is not None:
                self.deaths += 1
                self._workers[index] = self._spawn()

    def stop(self) -> None:
        """SIGTERM to all; insist that they end well, as a deployment would."""
        for worker in self._workers:
            worker.terminate()
        codes = [worker.wait(30) for worker in self._workers]
        # One that was just started may not have got to its signal handlers.
        bad = [code for code in codes if code not in (0, -signal.SIGTERM)]
        assert not bad, f"workers ended with {codes}"

    def runs(self) -> Counter[str]:
        """How often each task was started, by id."""
        return Counter(line.split()[0] for line in self._log.read_text().splitlines())

    def _spawn(self) -> subprocess.Popen[bytes]:
        return spawn("chaos.worker", *self._arguments)
