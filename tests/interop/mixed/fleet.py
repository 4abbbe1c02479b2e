"""Workers of both kinds; whoever is killed is replaced at once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from interop.celery_config import CONFIG
from interop.mixed import plan
from interop.mixed.log import LOG, SEAT
from interop.workers import WorkerProcess

CONCURRENCY = 2
CHILD_KILLS = 0.4
"""How many of Celery's kills hit one process of its pool, and not the worker with all of them."""
READY: Mapping[str, str] = {"celery": " ready.", "tranship": "consumes"}
"""What a worker says when it is ready."""


@dataclass(frozen=True)
class Death:
    """Who was killed: a worker with all its processes, or one of them."""

    seat: str
    pid: int | None
    at: float


@dataclass(frozen=True)
class Place:
    """What the workers of a fleet are told: queues, environment and Celery's configuration."""

    name: str
    folder: Path
    environ: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def log(self) -> Path:
        """Where the runs are written down."""
        return self.folder / f"{self.name}.runs"


class Seat:
    """One place for a worker of a kind, and who sits there now."""

    def __init__(self, kind: str, number: int, place: Place) -> None:
        self.kind = kind
        self._name = f"{kind}-{number}"
        self._place = place
        self._count = 0
        self.worker = self._next()

    @property
    def sitter(self) -> str:
        """Who sits there now."""
        return f"{self._name}.{self._count}"

    @property
    def ready(self) -> bool:
        """Whether the one who sits there works."""
        return READY[self.kind] in self.worker.output()

    def replace(self) -> None:
        """Kill the worker and start another, which is not waited for."""
        self.worker.kill()
        self.worker = self._next()
        self.worker.launch()

    def children(self) -> list[int]:
        """The processes that the worker has of its own."""
        command = ["ps", "-o", "pid=", "--ppid", str(self.worker.pid)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return [int(pid) for pid in done.stdout.split()]

    def _next(self) -> WorkerProcess:
        self._count += 1
        place, queues = self._place, f"{self._place.name}-steps,{self._place.name}-bodies"
        environ = {**place.environ, plan.QUEUES: place.name, LOG: str(place.log), SEAT: self.sitter}
        command = [sys.executable, "-m"]
        if self.kind == "celery":
            environ[CONFIG] = json.dumps(place.config)
            command += ["celery", "-A", "interop.mixed.celery_app", "worker", "-l", "INFO", "-P", "prefork"]
            command += ["-c", str(CONCURRENCY), "-Q", queues, "-n", f"{self.sitter}@{place.name}"]
            command += ["--without-mingle", "--without-gossip"]
        else:
            command += ["tranship", "worker", "interop.mixed.tranship_app"]
            command += ["--concurrency", str(CONCURRENCY), "--queues", queues, "--name", self.sitter]
        return WorkerProcess(command, place.folder, f"{place.name}-{self.sitter}", environ)


class Fleet:
    """Some workers. Leaving the block ends them in good order, unless it fails.

    Args:
        kinds: one worker of each: ``celery``, ``tranship``.
        place: where they work.
        dice: chooses who is killed.

    Attributes:
        deaths: who was killed, in order.
    """

    def __init__(self, kinds: Sequence[str], place: Place, dice: random.Random) -> None:
        self.deaths: list[Death] = []
        self._dice = dice
        self._seats = [Seat(kind, number, place) for number, kind in enumerate(kinds, start=1)]

    def __enter__(self) -> Self:
        try:
            for seat in self._seats:
                seat.worker.launch()
            for seat in self._seats:
                seat.worker.await_sign(READY[seat.kind])
        except BaseException:
            self._kill_all()
            raise
        return self

    def kill_one(self) -> None:
        """Kill a worker that has got to work, or one process of a Celery worker's pool."""
        self.look_after()
        working = [seat for seat in self._seats if seat.ready]
        if not working:
            return
        victim = self._dice.choice(working)
        children = victim.children() if victim.kind == "celery" and self._dice.random() < CHILD_KILLS else []
        if children:
            pid = self._dice.choice(children)
            self.deaths.append(Death(victim.sitter, pid, time.time()))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        self.deaths.append(Death(victim.sitter, None, time.time()))
        victim.replace()

    def look_after(self) -> None:
        """Fail if a worker has ended that nobody had killed."""
        for seat in self._seats:
            assert seat.worker.alive, f"{seat.sitter} ended by itself:\n{seat.worker.output()[-3000:]}"

    def kills(self) -> Counter[str]:
        """How many were killed, by kind; ``celery's children`` are processes of a pool."""
        return Counter(one.seat.partition("-")[0] + ("" if one.pid is None else "'s children") for one in self.deaths)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.look_after()
                codes = {seat.sitter: seat.worker.stop() for seat in self._seats}
                assert not any(codes.values()), f"workers ended with {codes}"
        finally:
            self._kill_all()
        if kind is not None:
            for seat in self._seats:
                print(f"--- {seat.worker.log.name}\n{seat.worker.output()[-4000:]}")

    def _kill_all(self) -> None:
        for seat in self._seats:
            seat.worker.kill()
