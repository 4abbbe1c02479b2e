"""Results as the rest of the kit deals with them: rows of its own, or a store that the driver has itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tranship.driver._nouns import Row
from tranship.driver._results import DriverResults, result_key
from tranship.driver._rows import Rows
from tranship.ports import ResultStore, StoredResult

__all__ = ["Outcomes"]


class Outcomes:
    """Where results go.

    Args:
        results: the kit's.
        rows: the table.

    Attributes:
        are_rows: whether results are the kit's rows, which can be written with an end.
        row: returns the row of a result.
    """

    def __init__(self, results: DriverResults, rows: Rows) -> None:
        self._results, self._rows = results, rows
        self._own: ResultStore | None = None
        self.are_rows = True
        self.row = results.row

    def take_over(self, store: ResultStore) -> None:
        """Keep results in the driver's store, if it is the driver's that ``put`` reaches."""
        if store.put != self._results.put:
            self._own, self.are_rows = store, False

    def announce(self, rows: Sequence[Row]) -> None:
        """Tell of rows that were written with an end."""
        self._results.announce(rows)

    async def keep(self, results: Sequence[StoredResult]) -> None:
        """Store results, in the caller's task, and tell of them; who was first stays."""
        if not results:
            return
        if self._own is not None:
            await self._own.put(results)
            return
        rows = [self._results.row(one) for one in results]
        self._results.announce(rows, await self._rows.create(rows))

    async def forget(self, ids: Sequence[str]) -> None:
        """Delete results, in the caller's task."""
        if self._own is not None:
            await self._own.forget_many(ids)
        else:
            await self._results.forget(ids)

    async def ended(self, ids: Collection[str]) -> set[str]:
        """Return those of which there is a result."""
        if not ids:
            return set()
        if self._own is not None:
            return {one.id for one in await self._own.get_many(list(ids)) if one.state.terminal}
        found = await self._rows.get(map(result_key, ids))
        return {one for one in ids if result_key(one) in found}
