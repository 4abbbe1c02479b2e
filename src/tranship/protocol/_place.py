"""Where a task with limits stands in the line of its key: a header of its message.

It is one of our own headers that no field of an envelope stands for, and so it travels with those that are carried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tranship.envelope import Envelope
from tranship.protocol._carried import CARRIED, carried

__all__ = ["Place", "place_of", "with_place"]

PLACE: Final = "tranship-place"
"""The header: key, share, part of the line, block, number in it."""


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
    kept = carried(envelope).get("headers")
    match kept.get(PLACE) if isinstance(kept, Mapping) else None:
        case [str(key), str(share), str(part), int(block), int(number)]:
            return Place(key, share, part, block, number)
    return None


def with_place(envelope: Envelope, place: Place) -> Envelope:
    """Return the envelope with where its task stands."""
    extra: dict[str, Any] = dict(carried(envelope))
    extra["headers"] = {**extra.get("headers", {}), PLACE: list(place)}
    return replace(envelope, headers={**envelope.headers, CARRIED: extra})
