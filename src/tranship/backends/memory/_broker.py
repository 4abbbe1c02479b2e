"""The state behind ``memory://``: one broker per name and process, one space per namespace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from tranship.backends.memory._agenda import Expiring
from tranship.backends.memory._clock import Clock
from tranship.backends.memory._guard import Guard
from tranship.backends.memory._stock import Stock
from tranship.driver import Heard, Outgoing, Row

__all__ = ["Hearer", "MemoryBroker", "Space"]


class MemoryBroker:
    """A broker in this process; safe to use from several threads and loops.

    Mutable state: the namespaces, guarded by one lock.

    Args:
        clock: where the time comes from; call :meth:`wake` after moving your own.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.guard: Guard = Guard()
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


@dataclass(slots=True, eq=False)
class Hearer:
    """Who hears some names."""

    heard: Heard
    tell: Callable[[Hearer, str, bytes], None]
    """Has ``heard`` called on its loop."""
    names: set[str] = field(default_factory=set)


class Space:
    """Everything one namespace holds.

    Mutable state: messages, rows, who hears what; changed only under ``guard``. No method blocks or awaits, so nothing
    can be cancelled half done.
    """

    def __init__(self, clock: Clock, guard: Guard) -> None:
        self.guard = guard
        self.stock: Stock = Stock(clock)
        self.submitted: Callable[[Outgoing], None] | None = None
        """Told of each message that is submitted, under the lock; None: nobody wants to know."""
        self._hearers: dict[str, list[Hearer]] = {}
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
        """Keep a row; return its version."""
        version = row.version = next(self._versions)
        until = float("inf") if row.ttl is None else self._clock.steady() + row.ttl
        name = row.key.partition("/")[0]
        kind = self._rows.get(name)
        if kind is None:
            kind = self._rows[name] = Expiring()
        kind.put(row.key, row, until=until)
        return version

    def create(self, row: Row) -> bytes | None:
        """Write a row unless there is one; return what is there."""
        there = self.row(row.key)
        if there is not None:
            return there.value
        self.write(row)
        if row.tell is not None:
            self.tell(row.key, row.tell)
        return None

    def tell(self, name: str, value: bytes) -> None:
        """Tell everybody who hears a name."""
        for hearer in self._hearers.get(name, ()):
            hearer.tell(hearer, name, value)

    def hear(self, hearer: Hearer, names: Sequence[str]) -> None:
        """From now on tell one of signals with these names."""
        for name in names:
            if name not in hearer.names:
                hearer.names.add(name)
                self._hearers.setdefault(name, []).append(hearer)

    def hear_no_more(self, hearer: Hearer, names: Sequence[str]) -> None:
        """Tell one of them no more."""
        for name in names:
            if name in hearer.names:
                hearer.names.remove(name)
                self._hearers[name].remove(hearer)
                if not self._hearers[name]:
                    del self._hearers[name]

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
