"""How many dead letters each queue has, without reading those that were counted before."""

from __future__ import annotations

from collections import Counter
from typing import Final

from tranship_redis._context import Context
from tranship_redis._scripts import Script

__all__ = ["DeadCounts"]

_LOOK: Final = 1000
"""Entries counted before others get their turn."""
_COUNT: Final = Script("dead_count")


class DeadCounts:
    """Counts of the stream, kept between calls.

    New dead letters are only ever added at the end; so as long as the counted ones are as many as there are,
    none of them has been deleted. When some have, everything is counted again.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: Counter[str] = Counter()
        self._last = ""

    async def read(self) -> Counter[str]:
        """Return dead letters by queue.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        counts, last, length = await self._behind(self._known, self._last)
        if self._last and counts.total() != length:
            counts, last, length = await self._behind(Counter(), "")
        # Deleted while we counted: right for now, but nothing to build on.
        self._known, self._last = (counts, last) if counts.total() == length else (Counter(), "")
        return counts

    async def _behind(self, known: Counter[str], last: str) -> tuple[Counter[str], str, int]:
        """Return ``known`` with what came behind ``last``, where that ends, and how many there are in all."""
        counts = Counter(known)
        while True:
            length, done, end, *found = await self._context.main.run(_COUNT, [self._context.keys.dead], [last, _LOOK])
            last = end.decode()
            for queue, count in zip(found[::2], found[1::2], strict=True):
                counts[queue.decode(errors="replace")] += count
            if done:
                return counts, last, length
