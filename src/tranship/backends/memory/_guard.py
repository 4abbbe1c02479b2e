"""The lock of the memory broker."""

from __future__ import annotations

import os
import threading
import weakref
from functools import partial
from types import TracebackType

from tranship.errors import ClosedError


class Guard:
    """A lock that a forked child cannot enter: its copy of the state is nobody's, and may be half changed.

    Attributes:
        foreign: whether this process is a fork of the one that the state belongs to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.foreign = False
        if hasattr(os, "register_at_fork"):
            # Told once for each fork, rather than asked for each time: that is a call of the kernel.
            os.register_at_fork(after_in_child=partial(_forked, weakref.ref(self)))

    def check(self) -> None:
        """Make sure that this is the process the state belongs to.

        Raises:
            ClosedError: this is a fork of it.
        """
        if self.foreign:
            raise ClosedError(
                f"the memory broker belongs to process {self._pid} and is not shared with its fork {os.getpid()}; "
                "open a new one after the fork, or use sqlite:// between processes"
            )

    def __enter__(self) -> None:
        if self.foreign:
            self.check()
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()


def _forked(guard: weakref.ref[Guard]) -> None:
    if (found := guard()) is not None:
        found.foreign = True
