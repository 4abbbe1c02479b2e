"""Worker processes of a module of ours that are killed and replaced, with a log of what their handlers do."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.fleet import spawn

WORKERS = 2
KILL_EVERY = 4.0
"""Seconds between two kills."""


class Workers:
    """Processes, each of which is replaced when it is killed; their deaths are in the log where that is wanted."""

    def __init__(self, module: str, url: str, log: Path, *, logs_deaths: bool) -> None:
        self._module, self._url, self._log, self._logs_deaths = module, url, log, logs_deaths
        self._all = [self._start() for _ in range(WORKERS)]
        self.kills, self._killed = 0, time.monotonic()

    def kill_one_now_and_then(self) -> None:
        """Kill one if the last was killed long enough ago."""
        if time.monotonic() > self._killed + KILL_EVERY:
            self._kill_one()
            self._killed = time.monotonic()

    def _kill_one(self) -> None:
        index = random.randrange(WORKERS)
        self._end(self._all[index])
        self._all[index] = self._start()
        self.kills += 1

    def end(self) -> None:
        for one in self._all:
            self._end(one)

    def _end(self, one: subprocess.Popen[bytes]) -> None:
        one.kill()
        one.wait()
        if self._logs_deaths:
            with self._log.open("a") as log:
                log.write(f"death {one.pid} - - 0\n")

    def _start(self) -> subprocess.Popen[bytes]:
        return spawn(self._module, self._url, str(self._log))


@contextmanager
def workers_at(module: str, url: str, log: Path, *, logs_deaths: bool = False) -> Iterator[Workers]:
    log.touch()
    workers = Workers(module, url, log, logs_deaths=logs_deaths)
    try:
        yield workers
    finally:
        workers.end()
