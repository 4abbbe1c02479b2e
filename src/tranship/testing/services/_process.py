"""A server as a local process that cannot outlive the tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tranship.errors import UnsupportedError
from tranship.testing.services._contract import Launch, Place, Recipe, ServiceFailed, free_port
from tranship.testing.services._guard import Guard

__all__ = ["ProcessService"]

_PROBE_INTERVAL = 0.02
_TAIL_LINES = 20
_PORT_ATTEMPTS = 3


class ProcessService:
    """Runs a recipe's server on a free port with a directory of its own, in its own process group.

    Signals go to the whole group, so helpers that the server forks share its fate. When the tests'
    process dies, however it dies, a guard kills the group within a second and deletes what
    :meth:`close` would have. POSIX only.

    Args:
        recipe: what to run.
        binary: path of its executable; by default the recipe's first.
        directory: for data and log; by default a temporary one that :meth:`close` deletes.
    """

    def __init__(self, recipe: Recipe, binary: str = "", *, directory: Path | None = None) -> None:
        if os.name != "posix":
            raise UnsupportedError(
                f"Local test servers need POSIX signals; on {sys.platform} set TRANSHIP_TEST_{recipe.name.upper()}_URL."
            )
        self._recipe = recipe
        self._binary = binary or recipe.binaries[0]
        self._temporary = None if directory else tempfile.TemporaryDirectory(prefix=f"tranship-{recipe.name}-")
        self._directory = directory or Path(self._temporary.name if self._temporary else "")
        self._log = self._directory / f"{recipe.name}.log"
        self._log.touch()
        self._place = Place(port=0, directory=self._directory)
        self._launch: Launch | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self._recipe.name

    @property
    def place(self) -> Place:
        """Where it lives; the port is 0 before the first :meth:`start`."""
        return self._place

    @property
    def url(self) -> str:
        """Where clients connect; the same from the first :meth:`start` on."""
        return self._recipe.url(self._place)

    @property
    def pid(self) -> int | None:
        """Process id of the running server; None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def controllable(self) -> bool:
        """True: the process is ours."""
        return True

    def start(self) -> str:
        """Start the server where it does not run and wait until it is ready; return :attr:`url`.

        The first start takes another port when the server ends at once: somebody may have taken ours
        just before it. Later starts keep the port.

        Raises:
            ServiceFailed: it ended, or was not ready within the recipe's ``start_timeout``.
        """
        if self.pid is None:
            for attempts_left in reversed(range(1 if self._launch else _PORT_ATTEMPTS)):
                if self._attempt(final=attempts_left == 0):
                    break
        return self.url

    def stop(self) -> None:
        """Send SIGTERM and wait; SIGKILL and ServiceFailed after the recipe's ``stop_timeout``."""
        if self._process is None:
            return
        _signal_group(self._process.pid, signal.SIGTERM)
        _signal_group(self._process.pid, signal.SIGCONT)
        try:
            self._process.wait(self._recipe.stop_timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._failure(f"ignored SIGTERM for {self._recipe.stop_timeout:g} s and was killed") from None
        self._reap()

    def kill(self) -> None:
        """Send SIGKILL to the whole group and wait until it is gone."""
        self._reap()

    def restart(self) -> str:
        """Stop the server where it runs, start it on the same port with the same data; return :attr:`url`."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze the group. Linux: it is frozen on return; elsewhere the signal is on its way."""
        pid = self._require_pid("pause")
        _signal_group(pid, signal.SIGSTOP)
        if sys.platform == "linux":
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let the group go on."""
        _signal_group(self._require_pid("resume"), signal.SIGCONT)

    def logs(self) -> str:
        """Standard output and error of all runs so far."""
        return self._log.read_text(errors="replace")

    def client_count(self) -> int:
        """Ask the server. Raises UnsupportedError where the recipe does not know how."""
        if self._recipe.count_clients is None:
            raise UnsupportedError(f"The recipe of {self.name!r} cannot count clients; give it `count_clients`.")
        return self._recipe.count_clients(self._place)

    def close(self) -> None:
        """Kill what runs and delete the temporary directory. Idempotent."""
        self._reap()
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attempt(self, *, final: bool) -> bool:
        """Start once; False: it ended by itself and another port is worth a try."""
        if self._launch is None:
            # Here and not in the constructor: between finding a port and using it nobody shall come.
            self._place = Place(port=free_port(), directory=self._directory)
            self._launch = self._recipe.launch(self._binary, self._place)
        self._spawn(self._launch)
        try:
            if self._wait_ready():
                return True
            failure = self._failure(
                f"ended with status {self._process and self._process.returncode} before it was ready"
            )
        except BaseException:
            self._reap()
            raise
        self._reap()
        if final:
            raise failure
        self._launch = None
        return False

    def _spawn(self, launch: Launch) -> None:
        self._reap()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                list(launch.command),
                cwd=self._directory,
                env={**os.environ, **launch.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = Guard(self._process.pid, litter=self._temporary.name if self._temporary else "")

    def _wait_ready(self) -> bool:
        """Wait until the probe says yes (True) or the process has ended (False); ServiceFailed when late."""
        give_up = time.monotonic() + self._recipe.start_timeout
        while time.monotonic() < give_up:
            answered = False
            with contextlib.suppress(OSError):
                answered = self._recipe.ready(self._place)
            if self._ended():
                return False
            if answered:
                return True
        raise self._failure(f"was not ready within {self._recipe.start_timeout:g} s")

    def _ended(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(_PROBE_INTERVAL)
        return self.pid is None

    def _reap(self) -> None:
        """Leave nothing of the group behind."""
        if self._process is None:
            return
        _signal_group(self._process.pid, signal.SIGKILL)
        if self._guard:
            # Before the wait: once the leader is reaped its group's number may be another's.
            self._guard.dismiss()
        self._process.wait()
        self._process = self._guard = None

    def _require_pid(self, verb: str) -> int:
        if (pid := self.pid) is None:
            raise self._failure(f"does not run; start it before you {verb} it")
        return pid

    def _failure(self, what: str) -> ServiceFailed:
        tail = "\n".join(self.logs().splitlines()[-_TAIL_LINES:])
        return ServiceFailed(f"Test server {self.name!r} ({self._binary}) {what}. Its last log lines:\n{tail}")


def _signal_group(pgid: int, number: int) -> None:
    # macOS refuses with PermissionError when only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)
