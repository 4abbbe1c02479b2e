"""Processes that are started, killed and replaced."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tranship.testing.process import Child

TESTS = Path(__file__).parent.parent
SOURCES = Path(sys.modules[Child.__module__].__file__ or "").parents[2]


def spawn(module: str, *arguments: str, more: Mapping[str, str] | None = None, **options) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` with the sources and the tests on its path, and ``more`` in its environment."""
    path = os.pathsep.join([str(TESTS), str(SOURCES)])
    environ = {**os.environ, **(more or {}), "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, "-m", module, *arguments], env=environ, **options)


@dataclass(frozen=True)
class Run:
    """One start of a handler."""

    id: str
    at: float
    pid: int
    delivery: int
    """1 the first time: a task that is started again in its first delivery is there twice."""


class Fleet:
    """Worker processes; whichever dies is replaced."""

    def __init__(self, url: str, log: Path, *, workers: int, concurrency: int, max_deliveries: int = 5) -> None:
        self.kills = 0
        self.deaths = 0
        self.died: dict[int, float] = {}
        """When each that was killed died, by process id."""
        self._log = log
        self._arguments = (url, str(log), str(concurrency), str(max_deliveries))
        self._workers: list[subprocess.Popen[bytes]] = []
        self.size = workers

    def __enter__(self) -> Self:
        self._log.touch()
        self._workers = [self._spawn() for _ in range(self.size)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.wait()

    def kill_one(self) -> None:
        """SIGKILL to any of them, and a new one in its place; to nobody where no other has got to work yet.

        On a busy machine they would else be killed faster than they start.
        """
        victim, at_work = random.randrange(len(self._workers)), {run.pid for run in self.history()}
        if any(worker.pid in at_work for index, worker in enumerate(self._workers) if index != victim):
            self.kill(victim)

    def kill(self, index: int) -> None:
        """SIGKILL to the one of this number, and a new one in its place."""
        victim = self._workers[index]
        victim.kill()
        victim.wait()
        self.kills += 1
        self.died[victim.pid] = time.time()
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
        return Counter(run.id for run in self.history())

    def history(self) -> list[Run]:
        """Every start of a handler, in order; the last line may still be on its way into the file."""
        whole, _, _ = self._log.read_text().rpartition("\n")
        lines = (line.split() for line in whole.splitlines())
        return [Run(task_id, float(at), int(pid), int(delivery)) for task_id, at, pid, delivery in lines]

    def doubled(self) -> set[str]:
        """Tasks that were queued twice: started again without having been taken from a worker."""
        first = Counter(run.id for run in self.history() if run.delivery == 1)
        return {task_id for task_id, times in first.items() if times > 1}

    def clear(self) -> None:
        """Forget what has run so far; nothing may be running."""
        self._log.write_text("")

    def returns(self) -> list[float]:
        """How long after each death the tasks that had been running there were started again, in seconds."""
        running: dict[str, int] = {}
        seconds = []
        for run in self.history():
            died = self.died.get(running.get(run.id, 0))
            if died is not None:
                seconds.append(run.at - died)
            running[run.id] = run.pid
        return sorted(seconds)

    def _spawn(self) -> subprocess.Popen[bytes]:
        return spawn("chaos.worker", *self._arguments)
