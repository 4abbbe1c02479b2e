"""Worker processes of both kinds: started, waited for, killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos.fleet import SOURCES, TESTS
from interop.celery_config import CONFIG, SHIFT, celery_config
from interop.runs import LOG, until
from tranship.testing.services._guard import Guard

START = 30.0
"""Seconds that a worker may take to get ready on a busy machine."""


class WorkerProcess:
    """A process group with a log, which does not outlive the tests."""

    def __init__(self, command: list[str], folder: Path, name: str, environ: dict[str, str]) -> None:
        self.log = folder / f"{name}.log"
        self._command = command
        self._environ = {
            LOG: str(folder / "runs"),
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(SOURCES)]),
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """What it has ended with; None: it has not."""
        return None if self._process is None else self._process.poll()

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def pid(self) -> int:
        """The number of its main process."""
        assert self._process is not None
        return self._process.pid

    def start(self, sign: str) -> None:
        """Start it and wait until it has said ``sign``; one of the same name may have said it before."""
        before = len(self.output())
        self.launch()
        self.await_sign(sign, before)

    def launch(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                start_new_session=True,
            )
        self._guard = Guard(self._process.pid)

    def await_sign(self, sign: str, before: int = 0) -> None:
        """Wait until it has said ``sign``, after so many characters of its log."""
        until(lambda: sign in self.output()[before:] or not self.alive, f"{self.log.name} says {sign!r}", START)
        assert self.alive, f"it ended while it started:\n{self.output()[-3000:]}"

    def kill(self) -> None:
        """SIGKILL to the whole group. Idempotent."""
        if self._process is None or self._guard is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # Before the wait: afterwards the group's number may be another's.
        self._guard.dismiss()
        self._process.wait()
        self._guard = None

    def stop(self) -> int:
        """SIGTERM to the main process and wait for its good end; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(START)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._guard is not None:
                assert self.alive, f"it ended by itself:\n{self.output()[-3000:]}"
                self.leave()
        finally:
            self.kill()
        if kind is not None:
            print(f"--- {self.log.name}\n{self.output()[-6000:]}")

    def leave(self) -> None:
        """End it at the end of the block."""
        raise NotImplementedError


class CeleryWorker(WorkerProcess):
    """``celery worker``. Leaving the block kills it, and fails if it had died by itself.

    Args:
        url: the broker.
        folder: for its log and the run log.
        queue, pool, concurrency, mingle: as on Celery's command line; comma between several queues.
        config: more configuration keys of Celery.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        name: str = "celery",
        queue: str = "interop",
        pool: str = "threads",
        concurrency: int = 2,
        mingle: bool = False,
        **config: Any,
    ) -> None:
        command = [sys.executable, "-m", "celery", "-A", "interop.celery_app", "worker", "-l", "INFO"]
        command += ["-P", pool, "-c", str(concurrency), "-Q", queue, "-n", f"{name}@interop"]
        # Mingling alone waits a second for answers.
        command += [] if mingle else ["--without-mingle"]
        super().__init__(command, folder, name, {CONFIG: json.dumps(celery_config(url, **config))})
        self.node = f"{name}@interop"

    def __enter__(self) -> Self:
        self.start(f"{self.node} ready.")
        return self

    def leave(self) -> None:
        # Stopping would take another second for each.
        self.kill()


class CeleryBeat(WorkerProcess):
    """``celery beat`` with the schedule of ``beat_app``. Leaving the block kills it, and fails if it had died by itself.

    Args:
        url, folder, config: as for a worker.
        hours: how far its app's clock is ahead of the time; below zero: behind.
    """

    def __init__(self, url: str, folder: Path, *, hours: float = 0.0, **config: Any) -> None:
        # Its file says when it has sent what: each one begins anew.
        schedule = folder / f"beat-{secrets.token_hex(4)}"
        command = [sys.executable, "-m", "celery", "-A", "interop.beat_app", "beat", "-l", "DEBUG"]
        command += ["-s", str(schedule), "--pidfile=", "--max-interval=1"]
        environ = {CONFIG: json.dumps(celery_config(url, **config)), **({SHIFT: str(hours)} if hours else {})}
        super().__init__(command, folder, schedule.name, environ)

    def __enter__(self) -> Self:
        self.start("beat: Starting...")
        return self

    def leave(self) -> None:
        self.kill()

    def sent(self, task: str) -> list[str]:
        """The ids of what it has sent of a task."""
        return re.findall(rf"{re.escape(task)} sent\. id->(\S+)", self.output())


class TranshipWorker(WorkerProcess):
    """A tranship worker. Leaving the block stops it in good order, and fails if it had died by itself."""

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        name: str = "tranship",
        queue: str = "interop",
        concurrency: int = 4,
        environ: dict[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "interop.tranship_app", url, queue, str(concurrency)]
        super().__init__(command, folder, name, environ or {})

    def __enter__(self) -> Self:
        self.start("ready\n")
        return self

    def leave(self) -> None:
        assert (status := self.stop()) == 0, f"it ended with {status}:\n{self.output()[-3000:]}"
