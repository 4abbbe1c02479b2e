"""The table as the kit uses it: whether there is one, answers counted, pages read on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from tranship.driver._connection import Connection, Table
from tranship.driver._nouns import Row
from tranship.driver._supervisor import Supervisor
from tranship.errors import UnsupportedError

__all__ = ["PAGE", "Rows", "time_in", "timed_key"]

PAGE: Final = 500


def timed_key(kind: str, at: float, mark: str) -> str:
    """Return a key that sorts among its kind by a moment; ``mark`` tells it from others of the same moment."""
    return f"{kind}/{at:017.6f}/{mark}"


def time_in(key: str) -> float:
    """Return the moment that :func:`timed_key` was given.

    Raises:
        ValueError: the key was not made by it.
    """
    _, _, rest = key.partition("/")
    return float(rest.partition("/")[0])


class Rows:
    """Runs the verbs of the table, in the task of the caller.

    All of them raise UnsupportedError where the driver has no table, and otherwise what :meth:`Supervisor.run` does.

    Args:
        supervisor: of the backend.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def create(self, rows: Sequence[Row]) -> Sequence[bytes | None]:
        """Create rows; see :meth:`Table.create`."""
        if not rows:
            return []
        return await self._supervisor.answers("create", lambda c: self._table(c).create(rows), len(rows))

    async def put(self, rows: Sequence[Row], if_version: Sequence[int] | None = None) -> Sequence[int | None]:
        """Write rows; see :meth:`Table.put`."""
        if not rows:
            return []
        return await self._supervisor.answers("put", lambda c: self._table(c).put(rows, if_version), len(rows))

    async def get(self, keys: Iterable[str]) -> dict[str, Row]:
        """Read rows; those that are not there are left out."""
        asked = list(dict.fromkeys(keys))
        if not asked:
            return {}
        found = await self._supervisor.answers("get", lambda c: self._table(c).get(asked), len(asked))
        return {key: row for key, row in zip(asked, found, strict=True) if row is not None}

    async def delete(self, keys: Iterable[str], if_version: Sequence[int] | None = None) -> Sequence[bool]:
        """Delete rows; see :meth:`Table.delete`."""
        asked = list(dict.fromkeys(keys))
        if not asked:
            return []
        return await self._supervisor.answers("delete", lambda c: self._table(c).delete(asked, if_version), len(asked))

    async def page(self, prefix: str, after: str, limit: int = PAGE) -> Sequence[Row]:
        """Read one page; see :meth:`Table.page`."""
        return await self._supervisor.run("page", lambda c: self._table(c).page(prefix, after, limit))

    async def each(self, prefix: str, after: str = "") -> AsyncIterator[Row]:
        """Yield every row whose key begins with ``prefix``, in order, page by page."""
        while rows := await self.page(prefix, after):
            for row in rows:
                yield row
            after = rows[-1].key

    async def since(self, kind: str, at: float = 0.0) -> AsyncIterator[Sequence[Row]]:
        """Yield, page by page, the rows with a :func:`timed_key` from ``at`` on, the earliest first."""
        after = timed_key(kind, at, "")
        while rows := await self.page(f"{kind}/", after):
            yield rows
            after = rows[-1].key

    def _table(self, connection: Connection) -> Table:
        if connection.table is None:
            raise UnsupportedError(f"{self._supervisor.name} keeps no rows: its driver gives the kit no table")
        return connection.table
