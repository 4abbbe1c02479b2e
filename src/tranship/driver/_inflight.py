"""The in-flight table: what was handed out and has not been settled, and what was said of it before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tranship.driver._nouns import Taken
from tranship.ports import Delivery, Settled

__all__ = ["InFlightTable"]

REMEMBERED: Final = 10_000


class InFlightTable:
    """The deliveries of one consumer."""

    def __init__(self) -> None:
        self._taken: dict[Delivery, Taken] = {}
        self._told: dict[Delivery, Settled] = {}

    def find(self, delivery: Delivery) -> Taken | None:
        """Return what was taken, if the delivery is one of ours that has not ended."""
        return self._taken.get(delivery)

    def add(self, taken: Iterable[Taken]) -> None:
        """They are handed out."""
        self._taken.update((one, one) for one in taken)

    def drop(self, taken: Iterable[Taken]) -> None:
        """They are settled, released or lost."""
        for one in taken:
            self._taken.pop(one, None)

    def clear(self) -> list[Taken]:
        """Return what is in flight, which then is not any more."""
        taken = list(self._taken.values())
        self._taken.clear()
        return taken

    def remember(self, delivery: Delivery, answer: Settled) -> None:
        """Note an answer that its caller did not hear, because another one of the batch failed."""
        self._told[delivery] = answer
        while len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]

    def told(self, delivery: Delivery) -> Settled | None:
        """Return, once, the answer that nobody has heard: settled again, say the same again."""
        return self._told.pop(delivery, None)
