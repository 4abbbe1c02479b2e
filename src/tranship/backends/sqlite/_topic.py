"""The topic of one connection: what was published, and rows that are told of, to whoever has subscribed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.backends.sqlite._peers import ROWS, SIGNALS
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, each
from tranship.driver import Heard, Subscriptions

if TYPE_CHECKING:
    from tranship.backends.sqlite._connection import SqliteConnection

__all__ = ["SqliteTopic"]

KEPT: Final = 30.0
"""Seconds for which what was published is kept for listeners that are slow to look."""


def _publish(tx: Transaction, items: Sequence[tuple[str, bytes]]) -> None:
    rows = [(tx.ns, name, value, tx.now + KEPT) for name, value in items]
    tx.insert("INSERT INTO signal(ns,name,value,expires)", "(?,?,?,?)", rows)
    tx.wakes.signals = True


PUBLISH: Final = Kind("publish", each(_publish), Mode.SOFT)
_NEWEST: Final = "SELECT seq, NULL, NULL FROM sqlite_sequence WHERE name=?"
"""In the same snapshot as what is read: later commits have higher numbers."""
# "+ns" keeps SQLite from the index by namespace: the numbers behind the last one are few.
SIGNALS_SINCE: Final = f"SELECT seq, name, value FROM signal WHERE seq>? AND +ns=? UNION ALL {_NEWEST}"  # noqa: S608
TOLD: Final = (
    "SELECT seq, key, CASE told WHEN 1 THEN value ELSE told END FROM row"  # noqa: S608 - constants
    f" WHERE seq>? AND +ns=? AND told IS NOT NULL UNION ALL {_NEWEST}"
)


class _Feed:
    """What comes into one table of the database, from when somebody hears it.

    Args:
        connection: whose.
        table: its name.
        sql: reads what is behind a number.
    """

    def __init__(self, connection: SqliteConnection, table: str, sql: str) -> None:
        self._connection, self._table, self._sql = connection, table, sql
        self._last = 0

    def start(self) -> None:
        """Hear what comes from now on; while the database is busy, some of what came before, too."""
        if rows := self._connection.read(_NEWEST, (self._table,)):
            self._last = rows[0][0]

    def news(self) -> list[tuple[str, bytes]]:
        """Return what has come since the last time."""
        rows: list[Any] | None = self._connection.read(self._sql, (self._last, self._connection.ns, self._table))
        # Nothing: the database is busy, and it is read the next time.
        self._last = max((row[0] for row in rows or ()), default=self._last)
        return [(name, value) for _, name, value in rows or () if name is not None]


class SqliteTopic:
    """What was published, and rows that are told of, to whoever has subscribed here."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection
        self._subscriptions = Subscriptions()
        self._keys = 0
        """Names that somebody hears and that may be keys of rows: they have a slash."""
        self._told = _Feed(connection, "row", TOLD)
        self._published = _Feed(connection, "signal", SIGNALS_SINCE)

    @property
    def wants(self) -> int:
        """What we are to be woken for."""
        return (SIGNALS if self._subscriptions else 0) | (ROWS if self._keys else 0)

    async def publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Keep it for half a minute, and wake who has subscribed."""
        await self._connection.writer.call(PUBLISH, items, weight=len(items))

    def subscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Hear names from now on."""
        if not self._subscriptions:
            self._published.start()
        keys = _keys(self._subscriptions.add(names, heard))
        if keys and not self._keys:
            self._told.start()
        self._keys += keys
        self._connection.enroll(self.wants)

    def unsubscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Hear them no more; that we are woken for them ends with the next sign of life."""
        self._keys -= _keys(self._subscriptions.remove(names, heard))

    async def active(self) -> None:
        """Return once we are woken for everything that somebody hears."""
        await self._connection.enrolled()

    def look(self, why: int) -> None:
        """Tell what has come."""
        for reason, feed in ((ROWS, self._told), (SIGNALS, self._published)):
            if why & self.wants & reason:
                for name, value in feed.news():
                    self._subscriptions.tell(name, value)


def _keys(names: Sequence[str]) -> int:
    """Count what may be keys of rows."""
    return len([name for name in names if "/" in name])
