"""Fork safety: nobody forks while a thread is inside SQLite, and a child never touches what it inherited."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["ForkGate", "Gate"]


class Gate:
    """Held around calls into SQLite by one user of it; a fork waits for all gates.

    Args:
        orphan: called in a forked child; closes inherited descriptors and returns what must never be
            touched again (closing an inherited connection could merge and delete the log of the parent).
    """

    def __init__(self, orphan: Callable[[], Any]) -> None:
        self.lock = threading.Lock()
        self.orphan = orphan


class ForkGate:
    """All gates of the process, registered with the interpreter once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Held during a fork: of two threads that fork at once one waits, or neither would open the gates again."""
        self._gates: weakref.WeakSet[Gate] = weakref.WeakSet()
        self._closed: list[Gate] = []
        self._kept: list[Any] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._parent, after_in_child=self._child)

    def add(self, gate: Gate) -> None:
        """Watch over ``gate`` until it is removed or forgotten."""
        with self._lock:
            self._gates.add(gate)

    def remove(self, gate: Gate) -> None:
        """``gate`` is not used any more."""
        with self._lock:
            self._gates.discard(gate)

    def _before(self) -> None:
        self._lock.acquire()
        self._closed = list(self._gates)
        for gate in self._closed:
            gate.lock.acquire()

    def _parent(self) -> None:
        closed, self._closed = self._closed, []
        for gate in closed:
            gate.lock.release()
        self._lock.release()

    def _child(self) -> None:
        for gate in self._closed:
            self._kept.append(gate.orphan())
        self._parent()
