"""Kills a process group when the process that started it is gone."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["Guard"]

_PATIENCE = 2.0

# Blocks on standard input, which ends when our process dies. The parent's id is the second witness: a forked child of
# ours may keep the pipe open, and a test that closes one descriptor too many may end it while our process lives.
_SCRIPT = """
import os, select, signal, sys
group, parent = int(sys.argv[1]), int(sys.argv[2])
heard, patience = [0], 1.0
while os.getppid() == parent:
    if select.select(heard, [], [], patience)[0]:
        if os.read(0, 1):
            sys.exit()
        heard, patience = [], 0.05
try:
    os.killpg(group, signal.SIGKILL)
except OSError:
    pass
if sys.argv[3]:
    import shutil
    shutil.rmtree(sys.argv[3], ignore_errors=True)
"""


class Guard:
    """A tiny process that kills group ``pgid`` as soon as ours is dead, whatever killed it, and deletes ``litter``.

    A death signal of the kernel would do on Linux only, and fires when the starting *thread* ends.
    """

    def __init__(self, pgid: int, litter: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SCRIPT, str(pgid), str(os.getpid()), litter],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Tell the guard that its group is taken care of."""
        try:
            self._process.communicate(b".", timeout=_PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            # It hears us no more: somebody closed our end of the pipe.
            self._process.kill()
            self._process.wait()
