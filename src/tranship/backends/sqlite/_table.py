"""The table of one connection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tranship.backends.sqlite._rows import BEAT, CREATE, DELETE, GET, PAGE, PUT, READ, row_of
from tranship.backends.sqlite._transaction import to_json
from tranship.backends.sqlite._upkeep import ROW
from tranship.driver import Row

if TYPE_CHECKING:
    from tranship.backends.sqlite._connection import SqliteConnection

__all__ = ["SqliteTable"]

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
