"""Where a task with limits stands in the line of its key: a note on its message."""

from __future__ import annotations

from typing import Final, NamedTuple

from tranship.envelope import Envelope
from tranship.protocol._marks import mark_of, marked

__all__ = ["Place", "place_of", "with_place"]

PLACE: Final = "place"
"""The note: key, share, part of the line, block, number in it."""


class Place(NamedTuple):
    """Where a task stands."""

    key: str
    """What the tasks of its line have in common; empty: all of the task are in one line."""
    share: str
    """Who has to share the line with others; empty: nobody."""
    part: str = ""
    """The name of the part of the line that is its share's; empty: it has no place yet."""
    block: int = 0
    """Which block of that part its message is in."""
    number: int = 0
    """Which message of the block it is."""

    @property
    def taken(self) -> bool:
        """Whether it stands there already."""
        return bool(self.part)


def place_of(envelope: Envelope) -> Place | None:
    """Return where a task stands; None: its message does not say, or not in words of ours."""
    match mark_of(envelope, PLACE):
        case [str(key), str(share), str(part), int(block), int(number)]:
            return Place(key, share, part, block, number)
    return None


def with_place(envelope: Envelope, place: Place) -> Envelope:
    """Return the envelope with where its task stands."""
    return marked(envelope, PLACE, list(place))
