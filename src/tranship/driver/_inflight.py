"""The in-flight table: what was handed out and has not been settled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tranship.driver._nouns import Taken
from tranship.ports import Delivery

__all__ = ["InFlightTable"]


class InFlightTable:
    """The deliveries of one consumer."""

    def __init__(self) -> None:
        self._taken: dict[Delivery, Taken] = {}

    def find(self, delivery: Delivery) -> Taken | None:
        """Return what was taken, if the delivery is one of ours that has not ended."""
        return self._taken.get(delivery)

    def add(self, taken: Sequence[Taken]) -> None:
        """They are handed out."""
        self._taken.update(zip(taken, taken, strict=True))

    def drop(self, taken: Iterable[Taken]) -> None:
        """They are settled, released or lost."""
        for one in taken:
            self._taken.pop(one, None)

    def clear(self) -> list[Taken]:
        """Return what is in flight, which then is not any more."""
        taken = list(self._taken.values())
        self._taken.clear()
        return taken
