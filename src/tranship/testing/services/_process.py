"""A server as a local process that cannot outlive the tests."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tranship.errors import UnsupportedError
from tranship.testing.services._contract import Launch, Place, Recipe, ServiceFailed, free_port
from tranship.testing.services._group import ProcessGroup
from tranship.testing.services._last_words import last_words

__all__ = ["ProcessService"]

log = logging.getLogger("tranship.testing")

_PROBE_INTERVAL = 0.02
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
        self._group: ProcessGroup | None = None

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
        return self._group.pid if self._group else None

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
            if ended := self.ended():
                log.warning("%s", ended)
            for attempts_left in reversed(range(1 if self._launch else _PORT_ATTEMPTS)):
                if self._attempt(final=attempts_left == 0):
                    break
        return self.url

    def stop(self) -> None:
        """Send the recipe's ``stop_signal`` and wait; SIGKILL and ServiceFailed after the recipe's ``stop_timeout``."""
        if self._group is None:
            return
        self._group.signal(self._recipe.stop_signal)
        self._group.signal(signal.SIGCONT)
        if not self._group.ends_within(self._recipe.stop_timeout):
            self.kill()
            name = signal.Signals(self._recipe.stop_signal).name
            raise self._failure(f"ignored {name} for {self._recipe.stop_timeout:g} s and was killed")
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
        self._running("pause").freeze()

    def resume(self) -> None:
        """Let the group go on."""
        self._running("resume").signal(signal.SIGCONT)

    def logs(self) -> str:
        """Standard output and error of all runs so far."""
        return self._log.read_text(errors="replace")

    def ended(self) -> str:
        """How it ended by itself, with its last log lines; empty: it runs, or was ended from here."""
        if self._group is None or self._group.pid is not None:
            return ""
        return str(self._failure(f"ended by itself with status {self._group.status}"))

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
            failure = self._failure(f"ended with status {self._group and self._group.status} before it was ready")
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
        self._group = ProcessGroup(
            launch.command,
            directory=self._directory,
            environ=launch.environ,
            output=self._log,
            litter=self._temporary.name if self._temporary else "",
        )

    def _wait_ready(self) -> bool:
        """Wait until the probe says yes (True) or the process has ended (False); ServiceFailed when late."""
        give_up = time.monotonic() + self._recipe.start_timeout
        while time.monotonic() < give_up:
            answered = False
            with contextlib.suppress(OSError):
                answered = self._recipe.ready(self._place)
            if self._group is None or self._group.ends_within(_PROBE_INTERVAL):
                return False
            if answered:
                return True
        raise self._failure(f"was not ready within {self._recipe.start_timeout:g} s")

    def _reap(self) -> None:
        """Leave nothing of the group behind."""
        if self._group is not None:
            self._group.kill()
            self._group = None

    def _running(self, verb: str) -> ProcessGroup:
        if self._group is None or self._group.pid is None:
            raise self._failure(f"does not run; start it before you {verb} it")
        return self._group

    def _failure(self, what: str) -> ServiceFailed:
        words = last_words(self.logs(), self._recipe.crash)
        return ServiceFailed(f"Test server {self.name!r} ({self._binary}) {what}. Its last log lines:\n{words}")
