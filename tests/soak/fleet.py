"""The workers of a soak: ``tranship worker --processes`` whose processes are killed at random, and one that is spared."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.fleet import spawn
from soak import tasks

PROCESSES = 3
WORKER = "soak.tasks:worker"
KEEPER_KILLS = 8
"""Every so many kills hit the process that keeps the others at work; those have to end by themselves then."""
PATIENCE = 60.0


class Fleet:
    """Worker processes, and the thread that kills them.

    Args:
        url: the broker.
        events: the directory for the files of events.
        pause: seconds between two kills, at least and at most.
        dice: chooses.

    Attributes:
        kills: how many processes were killed.
        keeper_kills: how many of them kept others at work.
        survivor: the process id of the worker that is spared.
    """

    def __init__(self, url: str, events: Path, *, pause: tuple[float, float], dice: random.Random) -> None:
        self.kills = self.keeper_kills = 0
        self._environ = {"TRANSHIP_BROKER_URL": url, tasks.EVENTS: str(events)}
        self._events = events
        self._pause = pause
        self._dice = dice
        self._over = threading.Event()
        self._killer = threading.Thread(target=self._kill, name="soak-killer")
        self._log = (events.parent / "workers.log").open("ab")
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._events.mkdir()
        queues = f"{tasks.MAIN},{tasks.VIDEO},{tasks.CPU}"
        self._survivor = self._spawn("--queues", queues, "--name", "survivor")
        self._keeper = self._spawn("--processes", str(PROCESSES))
        self.survivor = self._survivor.pid
        try:
            self._wait_until(lambda: len(self._pids()) > PROCESSES, "the workers do not begin")
        except BaseException:
            self._end()
            raise
        self._killer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_killer()
        self._end()

    def stop(self) -> None:
        """SIGTERM to all; insist that they end well, and that nobody is left."""
        self._end_killer()
        if self._error is not None:
            raise self._error
        assert self._survivor.poll() is None, f"the worker that is spared has ended; see {self._log.name}"
        codes = []
        for one in (self._keeper, self._survivor):
            one.terminate()
            codes.append(one.wait(PATIENCE))
        assert codes == [0, 0], f"workers ended with {codes}; see {self._log.name}"
        left = [pid for pid in self._pids() if self._is_ours(pid)]
        assert not left, f"processes {left} are left behind"
        said = Path(self._log.name).read_text("utf-8", "replace")
        assert "has ended: exit code" not in said, f"a worker ended that nobody had told to; see {self._log.name}"

    def _wait_until(self, condition: Callable[[], object], otherwise: str) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, f"{otherwise}; see {self._log.name}"
            time.sleep(0.1)

    def _end_killer(self) -> None:
        self._over.set()
        self._killer.join()

    def _end(self) -> None:
        for one in (self._keeper, self._survivor):
            one.kill()
            one.wait()
        self._log.close()

    def _spawn(self, *options: str) -> subprocess.Popen[bytes]:
        return spawn("tranship", "worker", WORKER, *options, stdout=self._log, stderr=self._log, more=self._environ)

    def _kill(self) -> None:
        try:
            while not self._over.wait(self._dice.uniform(*self._pause)):
                victims = self._children()
                # A keeper whose workers have died too often is pausing, and the next one does not.
                if not victims or self.kills % KEEPER_KILLS == KEEPER_KILLS - 1:
                    self._kill_keeper()
                else:
                    self.kills += 1
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self._dice.choice(victims), signal.SIGKILL)
        except BaseException as error:  # raised again by stop()
            self._error = error

    def _kill_keeper(self) -> None:
        """Kill the keeper; its children have to notice, and end in good order while the next ones work already."""
        orphans = self._children()
        self.kills += 1
        self.keeper_kills += 1
        self._keeper.kill()
        self._keeper.wait()
        self._keeper = self._spawn("--processes", str(PROCESSES))
        # One that is just starting would not hear a SIGTERM.
        self._wait_until(self._children, "the next keeper has nobody at work")
        self._wait_until(lambda: not any(map(self._is_ours, orphans)), f"some of {orphans} outlive their parent")

    def _children(self) -> list[int]:
        """The workers that the keeper has at work, and nobody else who has got one of their numbers."""
        return [pid for pid in self._pids() if asked_of(pid, "ppid") == str(self._keeper.pid)]

    def _pids(self) -> list[int]:
        return [int(path.name.partition(".")[0]) for path in self._events.iterdir()]

    def _is_ours(self, pid: int) -> bool:
        return WORKER in asked_of(pid, "args") or "--as-child" in asked_of(pid, "args")


def asked_of(pid: int, field: str) -> str:
    """What the system says of a process; nothing where there is none."""
    done = subprocess.run(["ps", "-o", f"{field}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()
