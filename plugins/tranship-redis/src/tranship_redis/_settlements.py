"""What became of endings whose answer was lost: they are ended once, whatever becomes of the connection.

A batch whose answer was lost with the connection may have been carried out. Batches are numbered, one is under way
at a time, and the script keeps number and answers of the last one in a key. The next batch asks for everything of which
nobody knows: if the key has the number of the batch without an answer, these are its answers, and they are kept as the
new one's; if not, that batch was not carried out, and never will be, because the key shuts out lower numbers from now
on. So who ends again gets the first answer, and LOST means that it really was.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final

from tranship.ports import Settled
from tranship_redis._pack import Part

__all__ = ["ANSWERS", "SettlementMemory"]

ANSWERS: Final = {ord("1"): Settled.CONFIRMED, ord("0"): Settled.LOST}
_UNSURE: Final = 1000
"""Endings without an answer that are remembered; those beyond are the oldest."""


class SettlementMemory:
    """What one backend knows of endings whose answer was lost with the connection.

    Args:
        name: of the backend, in ASCII; in the name of its key.

    Attributes:
        numbers: of batches.
        turn: one batch is under way at a time.
    """

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self.numbers = itertools.count(1)
        self.turn = asyncio.Lock()
        self.told: dict[bytes, Settled] = {}
        """Answers that were found, and that nobody has heard."""
        self.unsure: dict[bytes, list[tuple[int, int]]] = {}
        """Batches without an answer that a delivery was ended in, and its place in each."""

    def key(self, prefix: bytes) -> bytes:
        """Return the key that the server keeps the last batch in."""
        return prefix + b"tranship:settled:" + self._name

    def others(self, tokens: Sequence[bytes]) -> list[bytes]:
        """Return what else the script is to look up, beside what it is to end."""
        return [token for token in self.unsure if token not in tokens] if self.unsure else []

    def asked(self, tokens: Sequence[bytes]) -> list[Part]:
        """Return what the script is to look up before it carries out anything."""
        parts: list[Part] = []
        if self.unsure:
            for item, token in enumerate((*tokens, *self.others(tokens)), 1):
                for batch, place in self.unsure.get(token, ()):
                    parts += ("asked", item, batch, place)
        return parts

    def lost(self, tokens: Sequence[bytes], batch: int) -> None:
        """There was no answer to this batch."""
        for place, token in enumerate((*tokens, *self.others(tokens)), 1):
            self.unsure.setdefault(token, []).append((batch, place))
        _bound(self.unsure)

    def heard(self, tokens: Sequence[bytes], text: bytes) -> None:
        """There was one: what has no answer in it of those that were looked up will never be carried out."""
        if not self.unsure:
            return
        others, self.unsure = self.others(tokens), {}
        said = zip(others, text[len(tokens) :], strict=True)
        self.told.update((token, ANSWERS[answer]) for token, answer in said if answer in ANSWERS)
        _bound(self.told)


def _bound(remembered: dict[bytes, Any]) -> None:
    while len(remembered) > _UNSURE:
        del remembered[next(iter(remembered))]
