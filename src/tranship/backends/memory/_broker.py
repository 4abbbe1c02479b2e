"""The state behind ``memory://``: one broker per name and process, one space per namespace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from tranship.backends.memory._agenda import Expiring
from tranship.backends.memory._clock import Clock
from tranship.backends.memory._guard import Guard
from tranship.backends.memory._stock import Stock
from tranship.driver import Row, Subscriptions

__all__ = ["MemoryBroker", "Space"]


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


class Space:
    """Everything one namespace holds.

    Mutable state: messages, rows, who hears what; changed only under ``guard``. No method blocks or awaits, so nothing
    can be cancelled half done.
    """

    def __init__(self, clock: Clock, guard: Guard) -> None:
        self.guard = guard
        self.stock = Stock(clock)
        self.subscriptions = Subscriptions()
        self._clock = clock
        self._versions = count(1)
        self._rows: dict[str, Expiring[str, Row]] = {}

    def row(self, key: str) -> Row | None:
        """Return the row of ``key``, if it is there."""
        kind = self._rows.get(key.partition("/")[0])
        return None if kind is None else kind.get(key, self._clock.steady())

    def rows(self, prefix: str, after: str, limit: int) -> list[Row]:
        """Return a page of rows, by key."""
        kind = self._rows.get(prefix.partition("/")[0])
        found = [] if kind is None else kind.values(self._clock.steady())
        wanted = [row for row in found if row.key.startswith(prefix) and row.key > after]
        return sorted(wanted, key=lambda row: row.key)[:limit]

    def write(self, row: Row) -> int:
        """Write a row; return its version."""
        version = next(self._versions)
        until = float("inf") if row.ttl is None else self._clock.steady() + row.ttl
        kind = self._rows.setdefault(row.key.partition("/")[0], Expiring())
        kind.put(row.key, Row(row.key, row.value, version=version), until=until)
        return version

    def create(self, row: Row) -> bytes | None:
        """Write a row unless there is one; return what is there."""
        there = self.row(row.key)
        if there is None:
            self.write(row)
        return None if there is None else there.value

    def fits(self, keys: Sequence[str], versions: Sequence[int] | None) -> list[bool]:
        """Say of each key whether its row is there in that version; without versions they all fit."""
        if versions is None:
            return [True] * len(keys)
        rows = [self.row(key) for key in keys]
        return [row is not None and row.version == version for row, version in zip(rows, versions, strict=True)]

    def delete(self, key: str) -> bool:
        """Delete a row; False: there is none."""
        if self.row(key) is None:
            return False
        self._rows[key.partition("/")[0]].drop(key)
        return True
