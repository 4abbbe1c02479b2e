"""Rows by key: results, dedup keys, cancels, heartbeats, dead letters. A row's number is its version."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, each, to_json
from tranship.backends.sqlite._upkeep import ROW
from tranship.driver import Row

if TYPE_CHECKING:
    from tranship.backends.sqlite._connection import SqliteConnection

__all__ = ["CREATE", "SqliteTable", "create", "known"]

_INTO: Final = "INSERT INTO row(seq,ns,key,value,expires,told)"
_ROW: Final = "(?,?,?,?,?,?)"
_LIVE: Final = "(expires IS NULL OR expires>?)"
_ONE: Final = f"SELECT seq, value FROM row WHERE ns=? AND key=? AND {_LIVE}"  # noqa: S608 - constants, here and below
_NAMED: Final = f"SELECT key, seq, value FROM row WHERE ns=? AND key IN (SELECT value FROM json_each(?)) AND {_LIVE}"  # noqa: S608
_DELETE: Final = "DELETE FROM row WHERE ns=? AND key IN (SELECT value FROM json_each(?))"
READ: Final = f"SELECT key, value, seq FROM row WHERE ns=? AND key IN (SELECT value FROM json_each(?)) AND {_LIVE}"  # noqa: S608
_PAGE: Final = (
    f"SELECT key, value, seq FROM row WHERE ns=? AND key>=? AND key>? AND key<? AND {_LIVE} ORDER BY key LIMIT ?"  # noqa: S608
)
_SAME: Final = 1
"""Stored for what is told of a row, where that is its value."""


def create(tx: Transaction, rows: Sequence[Row]) -> list[bytes | None]:
    """Insert rows unless they are there; return what is there of each, None: nothing."""
    if not rows:
        return []
    there: list[bytes | None] = [None] * len(rows)
    first, values = _numbered(tx, rows)
    if tx.insert(_INTO, _ROW, values, "ON CONFLICT(ns, key) DO NOTHING") < len(rows):
        there = _sort_out(tx, rows, values, first)
        rows = [row for row, old in zip(rows, there, strict=True) if old is None]
    tx.wakes.rows = tx.wakes.rows or any(row.tell is not None for row in rows)
    return there


def _sort_out(tx: Transaction, rows: Sequence[Row], values: Sequence[Sequence[Any]], first: int) -> list[bytes | None]:
    """Some were there before, or are here twice; those that had expired make room."""
    old = tx.rows(
        "SELECT key, value, expires FROM row WHERE ns=? AND key IN (SELECT value FROM json_each(?)) AND seq<?",
        *(tx.ns, to_json(row.key for row in rows), first),
    )
    expired = {key for key, _, expires in old if expires is not None and expires <= tx.now}
    if expired:
        tx.run(_DELETE, tx.ns, to_json(expired))
        tx.insert(_INTO, _ROW, [one for one in values if one[2] in expired], "ON CONFLICT(ns, key) DO NOTHING")
    taken = {key: value for key, value, _ in old if key not in expired}
    there = []
    for row in rows:
        there.append(taken.get(row.key))
        taken.setdefault(row.key, row.value)
    return there


def known(tx: Transaction, key: str) -> tuple[int, bytes] | None:
    """Return version and value of one row; None: there is none."""
    found = tx.rows(_ONE, tx.ns, key, tx.now)
    return found[0] if found else None


def _put(tx: Transaction, order: tuple[Sequence[Row], Sequence[int] | None]) -> list[int | None]:
    rows, versions = order
    fits = _fits(tx, [row.key for row in rows], versions)
    first, values = _numbered(tx, rows)
    tx.insert(f"INSERT OR REPLACE {_INTO[7:]}", _ROW, [one for one, fit in zip(values, fits, strict=True) if fit])
    return [first + place if fit else None for place, fit in enumerate(fits)]


def _delete(tx: Transaction, order: tuple[Sequence[str], Sequence[int] | None]) -> list[bool]:
    keys, versions = order
    there = {key for key, _, _ in tx.rows(_NAMED, tx.ns, to_json(keys), tx.now)}
    gone = [fit and key in there for key, fit in zip(keys, _fits(tx, keys, versions), strict=True)]
    tx.run(_DELETE, tx.ns, to_json(key for key, is_gone in zip(keys, gone, strict=True) if is_gone))
    return gone


def _fits(tx: Transaction, keys: Sequence[str], versions: Sequence[int] | None) -> list[bool]:
    if versions is None:
        return [True] * len(keys)
    there = {key: seq for key, seq, _ in tx.rows(_NAMED, tx.ns, to_json(keys), tx.now)}
    return [there.get(key) == version for key, version in zip(keys, versions, strict=True)]


def _numbered(tx: Transaction, rows: Sequence[Row]) -> tuple[int, list[tuple[Any, ...]]]:
    """Return the columns of rows, with numbers that were never used, and the first of these."""
    first = tx.last("row") + 1
    return first, [
        (
            first + place,
            tx.ns,
            row.key,
            row.value,
            None if row.ttl is None else tx.now + row.ttl,
            _SAME if row.tell is not None and row.tell == row.value else row.tell,
        )
        for place, row in enumerate(rows)
    ]


def _get(tx: Transaction, keys: Sequence[str]) -> list[Any]:
    return tx.rows(READ, tx.ns, to_json(keys), tx.now)


def _page(tx: Transaction, order: tuple[str, str, int]) -> list[Row]:
    prefix, after, limit = order
    return [row_of(*row) for row in tx.rows(_PAGE, tx.ns, prefix, after, prefix + chr(0x10FFFF), tx.now, limit)]


def row_of(key: str, value: bytes, seq: int) -> Row:
    """Return a row as it was read."""
    return Row(key, value, version=seq)


CREATE: Final = Kind("create rows", each(create), grows=True)
PUT: Final = Kind("put rows", each(_put), grows=True)
BEAT: Final = Kind("put rows that last for moments", each(_put), Mode.SOFT)
DELETE: Final = Kind("delete rows", each(_delete))
GET: Final = Kind("get rows", each(_get), Mode.READ)
PAGE: Final = Kind("list rows", each(_page), Mode.READ)


HERE: Final = 200
"""Rows read on the loop's thread; more are read by the writer's."""
MOMENTS: Final = 60.0
"""Seconds: a row that lasts no longer need not outlive a power cut, and is not synced."""


class SqliteTable:
    """Rows of one namespace; each verb is one transaction."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection, self._writer = connection, connection.writer

    async def create(self, rows: Sequence[Row]) -> Sequence[bytes | None]:
        """Write those whose keys are free."""
        return await self._writer.call(CREATE, rows, weight=_weight(rows))

    async def put(self, rows: Sequence[Row], if_version: Sequence[int] | None = None) -> Sequence[int | None]:
        """Write those that are there in the right version."""
        brief = all(row.ttl is not None and row.ttl <= MOMENTS for row in rows)
        return await self._writer.call(BEAT if brief else PUT, (rows, if_version), weight=_weight(rows))

    async def get(self, keys: Sequence[str]) -> Sequence[Row | None]:
        """Read rows, at once where they are few."""
        found = None
        if len(keys) <= HERE:
            found = self._connection.read(READ, (self._connection.ns, to_json(keys), time.time()))
        if found is None:
            found = await self._writer.call(GET, keys)
        there = {row[0]: row_of(*row) for row in found}
        return [there.get(key) for key in keys]

    async def delete(self, keys: Sequence[str], if_version: Sequence[int] | None = None) -> Sequence[bool]:
        """Delete those that are there in the right version."""
        return await self._writer.call(DELETE, (keys, if_version), weight=len(keys))

    async def page(self, prefix: str, after: str, limit: int) -> Sequence[Row]:
        """Read a page."""
        return await self._writer.call(PAGE, (prefix, after, limit))


def _weight(rows: Sequence[Row]) -> int:
    return max(len(rows), sum(len(row.value) for row in rows) // ROW)
