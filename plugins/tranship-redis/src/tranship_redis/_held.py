"""The handle of a delivery, and the list it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tranship.envelope import Priority

__all__ = ["MOST", "Held", "Place", "microseconds"]

MOST: Final = 500
"""Deliveries per script call; the server does nothing else meanwhile."""
_LONGEST: Final = 100 * 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Place:
    """One list of a queue."""

    key: bytes
    queue: str
    step: int
    priority: Priority


class Held:
    """The token of a delivery: what is needed to end it."""

    __slots__ = ("letter", "number", "place", "tag", "token")

    def __init__(self, token: bytes, tag: bytes, place: Place, number: int, *, letter: bool = False) -> None:
        self.token = token
        """The claim token, ``<list>\\0<tag>\\0<claim id>``; or the name of the dead letter."""
        self.tag = tag
        self.place = place
        self.number = number
        """Grows with every delivery of a consumer."""
        self.letter = letter
        """It was kept apart among the dead letters, because Celery must not meet it."""


def microseconds(seconds: float) -> int:
    """Return a lease as the scripts take it."""
    return max(1, round(min(seconds, _LONGEST) * 1_000_000))
