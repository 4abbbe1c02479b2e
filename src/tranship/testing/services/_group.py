"""A process with all that it starts: signalled together, and gone with ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tranship.testing.services._guard import Guard

__all__ = ["ProcessGroup"]


_NOT_ASKED: Final = (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT)


class ProcessGroup:
    """Starts a command in a session and a process group of its own.

    A server whose helpers make groups of their own, as PostgreSQL's do, is frozen and killed with them on Linux.

    Args:
        command: with its arguments.
        directory: where it runs.
        environ: variables on top of ours.
        output: file that gets what it says.
        litter: directory to delete should our process die; empty: none.
    """

    def __init__(
        self, command: Sequence[str], *, directory: Path, environ: Mapping[str, str], output: Path, litter: str = ""
    ) -> None:
        with output.open("ab") as log:
            self.leader = subprocess.Popen(
                list(command),
                cwd=directory,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = Guard(self.leader.pid, litter=litter)

    @property
    def pid(self) -> int | None:
        """Process id of the leader; None when it has ended."""
        return self.leader.pid if self.leader.poll() is None else None

    @property
    def status(self) -> int | None:
        """How the leader ended; None: it runs."""
        return self.leader.poll()

    def signal(self, number: int) -> None:
        """Send a signal to all that are left."""
        # A leader that was collected has given its number free. Helpers that it left keep others from having it; if
        # somebody has it now, there are none, and it is a stranger.
        if self.leader.returncode is not None and _runs(self.leader.pid):
            return
        # What asks for a good end is the leader's to pass on.
        left = _left_the_group(self.leader.pid) if number in _NOT_ASKED else []
        # macOS refuses with PermissionError when only zombies are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.leader.pid, number)
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def freeze(self) -> None:
        """Stop it. Linux: it is frozen on return; elsewhere the signal is on its way."""
        self.signal(signal.SIGSTOP)
        if sys.platform == "linux":
            os.waitid(os.P_PID, self.leader.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the leader's end; whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.leader.wait(seconds)
        return self.pid is None

    def kill(self) -> None:
        """Leave nothing of it behind."""
        self.signal(signal.SIGKILL)
        # Before the wait: once the leader is collected its group's number may be another's.
        self._guard.dismiss()
        self.leader.wait()


def _left_the_group(leader: int) -> list[int]:
    """Return the descendants of a process that are in another group; none where nobody knows."""
    found, left = [], [leader]
    while left:
        with contextlib.suppress(OSError):
            pid = left.pop()
            left += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            if os.getpgid(pid) != leader:
                found.append(pid)
    return found


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
