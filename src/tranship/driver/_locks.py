"""Locks: one has each at a time, for as long as it says so. Owns the rows ``n/`` (names of workers) and ``l/``."""

from __future__ import annotations

import json
from typing import Final

from tranship.driver._nouns import Row
from tranship.driver._rows import Rows
from tranship.errors import BrokerUnreachable
from tranship.ports import NameHolder, name_holder_data, name_holder_of

__all__ = ["LOCKS", "WORKER_NAMES", "Locks"]

WORKER_NAMES: Final = "n/"
LOCKS: Final = "l/"
TRIES: Final = 5
"""Looks at a row that is another one each time, before whoever wants it has to come again."""
REMEMBERED: Final = 1000
"""Locks that were renewed and not given up, of which it is known which row is ours."""


class Locks:
    """Who has which lock, in the table. A row that nobody renews goes by itself.

    Args:
        rows: the table.
        kind: what the keys of these locks begin with: a worker's name is such a lock, and no other one's.
    """

    def __init__(self, rows: Rows, kind: str) -> None:
        self._rows, self._kind = rows, kind
        self._renewed: dict[str, tuple[str, int]] = {}
        """Whose row was written last, and its version: as long as that is there, nobody else has the lock."""

    async def take(self, holder: NameHolder, seconds: float) -> NameHolder | None:
        """Take or keep a lock; None: it is the holder's, else who has it.

        Raises:
            BrokerUnreachable: it is another one's each time that it is looked at.
        """
        row = Row(self._key(holder), json.dumps(name_holder_data(holder)).encode(), seconds)
        instance, version = self._renewed.get(row.key, ("", 0))
        if instance == holder.instance and await self._replaced(holder, version, row):
            return None
        for _ in range(TRIES):
            found = await self._found(holder)
            (there,) = await self._rows.create([row]) if found is None else [found.value]
            if there is None:
                return None
            other = _holder(there, holder.name)
            if not holder.may_follow(other):
                return other
            if found is not None and await self._replaced(holder, found.version, row):
                return None
        raise BrokerUnreachable(f"{holder.name!r} changes its holder each time that it is looked at; try again")

    async def free(self, holder: NameHolder) -> None:
        """Give a lock up that is this very holder's."""
        self._renewed.pop(self._key(holder), None)
        for _ in range(TRIES):
            found = await self._found(holder)
            if found is None or _holder(found.value, holder.name).instance != holder.instance:
                return
            if all(await self._rows.delete([found.key], [found.version])):
                return

    async def _replaced(self, holder: NameHolder, version: int, row: Row) -> bool:
        self._renewed.pop(row.key, None)
        (written,) = await self._rows.put([row], [version])
        if written is None:
            return False
        if len(self._renewed) >= REMEMBERED:
            self._renewed.clear()
        self._renewed[row.key] = holder.instance, written
        return True

    async def _found(self, holder: NameHolder) -> Row | None:
        key = self._key(holder)
        return (await self._rows.get([key])).get(key)

    def _key(self, holder: NameHolder) -> str:
        return f"{self._kind}{holder.name}"


def _holder(value: bytes, name: str) -> NameHolder:
    try:
        return name_holder_of(json.loads(value), name)
    except (ValueError, RecursionError):
        return name_holder_of(None, name)
