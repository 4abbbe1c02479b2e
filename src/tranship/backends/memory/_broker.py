"""The state behind ``memory://``: one per name and process."""

from __future__ import annotations

from tranship.backends.memory._clock import Clock
from tranship.backends.memory._guard import Guard
from tranship.backends.memory._space import Space


class MemoryBroker:
    """A broker in this process; safe to use from several threads and loops.

    Mutable state: the namespaces, guarded by one lock.

    Args:
        clock: where the time comes from; call :meth:`wake` after moving your own.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.guard = Guard()
        self._clock = clock or Clock()
        self._spaces: dict[str, Space] = {}

    def space(self, namespace: str) -> Space:
        """Return what ``namespace`` holds; two namespaces never see each other.

        Raises:
            ClosedError: this process is a fork of the one that made the broker.
        """
        with self.guard:
            found = self._spaces.get(namespace)
            if found is None:
                found = self._spaces[namespace] = Space(self._clock, self.guard)
            return found

    def wake(self) -> None:
        """Make everybody who waits look again; any thread may call it."""
        with self.guard:
            for space in self._spaces.values():
                space.stock.ring()
