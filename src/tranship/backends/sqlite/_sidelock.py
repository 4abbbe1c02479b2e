"""One lock file beside the database serialises commits, checkpoints and closing between processes.

It replaces SQLite's busy handler, which sleeps up to 100 ms while others take the lock again and again, and
it keeps a checkpoint from running beside a commit that resets the log (a bug of SQLite up to 3.51.2).
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Final

from tranship.errors import BrokerUnreachable

if sys.platform != "win32":
    import fcntl

__all__ = ["SideLock"]

_FIRST_PAUSE: Final = 0.00005
_LONGEST_PAUSE: Final = 0.001


class SideLock:
    """An ``flock`` on its own file; not reentrant. Where there is no ``flock`` it does nothing.

    It is polled and not waited for, so that a process which was stopped while holding it (SIGSTOP) cannot
    hang the others beyond ``patience`` seconds.
    """

    def __init__(self, path: Path, *, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._descriptor: int | None = None
        # Not the module's own state, which is the application's to seed.
        self._random = random.Random()

    def open(self) -> None:
        """Open the lock file, creating it if need be; it is never deleted."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        return self._try()

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            BrokerUnreachable: another process has kept it for longer than ``patience``.
        """
        if self._try():
            return
        until = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while not self._try():
            if time.monotonic() > until:
                raise BrokerUnreachable(
                    f"another process has held {self._path} for {self._patience:g} s; is it stopped or hung?"
                )
            time.sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def release(self) -> None:
        """Let go."""
        if sys.platform != "win32" and self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock file. In a forked child this leaves the parent's lock alone."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _try(self) -> bool:
        if sys.platform == "win32" or self._descriptor is None:
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
