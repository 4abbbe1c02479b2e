"""Where pushed results arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tranship.ports import ResultStore, StoredResult
from tranship.testing.context import CaseContext

__all__ = ["PushedResults"]


class PushedResults:
    """A sink that remembers; attached to a store."""

    def __init__(self, store: ResultStore, context: CaseContext) -> None:
        self.store = store
        self._patience = context.patience
        self._got: dict[str, StoredResult] = {}
        self._news = asyncio.Event()
        store.attach(self._take)

    def waiting(self) -> int | None:
        """How many ids the store says that it expects; None: it has no such property."""
        count: int | None = getattr(self.store, "waiting", None)
        return count

    def ids(self) -> set[str]:
        """What has been pushed."""
        return set(self._got)

    async def get(self, task_id: str) -> StoredResult:
        """Return the pushed result of ``task_id``, waiting for it with a bound."""
        try:
            async with asyncio.timeout(self._patience):
                while task_id not in self._got:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"the result of {task_id} was not pushed within {self._patience} s") from None
        return self._got[task_id]

    def _take(self, results: Sequence[StoredResult]) -> None:
        self._got.update((result.id, result) for result in results)
        self._news.set()
