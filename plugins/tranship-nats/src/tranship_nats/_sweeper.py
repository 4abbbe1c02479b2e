"""Looking level by level: strictly in order, the queues of a level in turn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tranship_nats._box import Box
from tranship_nats._held import Pair
from tranship_nats._pulls import Pulls

__all__ = ["Sweeper"]


class Sweeper:
    """Fills the box of one consumer with what is there.

    Args:
        pulls: asks.
        box: where messages come to.
    """

    def __init__(self, pulls: Pulls, box: Box) -> None:
        self._pulls = pulls
        self._box = box
        self._turn = 0

    async def sweep(self, pairs: Sequence[Pair], limit: int) -> bool:
        """Fill the box up to ``limit``; whether the server answered."""
        self._turn += 1
        for _, level in groupby(sorted(pairs, key=_level), key=_level):
            if not await self._sweep_level(list(level), limit):
                # A consumer that is gone does not answer.
                self._pulls.troubled = True
                return False
        return True

    async def _sweep_level(self, pairs: list[Pair], limit: int) -> bool:
        turn = self._turn % len(pairs)
        open_pairs = pairs[turn:] + pairs[:turn]
        while open_pairs and (missing := limit - len(self._box)) > 0:
            share, more = divmod(missing, len(open_pairs))
            wanted = [(pair, share + (place < more)) for place, pair in enumerate(open_pairs)]
            wanted = [(pair, batch) for pair, batch in wanted if batch]
            before = self._box.counts()
            if not await self._pulls.sweep(wanted):
                return False
            after = self._box.counts()
            empty = {pair for pair, batch in wanted if after[pair] - before[pair] < batch}
            open_pairs = [pair for pair in open_pairs if pair not in empty]
        return True


def _level(pair: Pair) -> int:
    return pair.priority.value
