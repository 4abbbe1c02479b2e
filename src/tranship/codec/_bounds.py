"""How much one message or document may hold. Values are counted before they are built: each costs fifty bytes or more.

Three bytes of JSON or one of msgpack are a value; a bomb of a few hundred compressed bytes is millions of them.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["DEFAULT_LIMIT", "MOST_VALUES", "Count", "TooManyValues", "check_json"]

DEFAULT_LIMIT: Final = 16 * 1024 * 1024
"""The largest size, in bytes, that a body may unpack to where nobody says ``max_message_size``; the same as that."""

MOST_VALUES: Final = 1 << 20
"""Values and keys in one message or document."""

_STRING: Final = rb'(?s)"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z)'
"""Possessive, and matching to the end what is not closed: one pass whatever the bytes. Compiled when it is needed."""


class TooManyValues(ValueError):
    """There are more than :data:`MOST_VALUES`."""

    def __init__(self) -> None:
        super().__init__(f"more than {MOST_VALUES:,} values")


def check_json(data: bytes, most: int = MOST_VALUES) -> None:
    """Return if the JSON ``data`` holds no more than ``most`` values; worth asking of that many bytes only.

    Raises:
        TooManyValues: it holds more.
    """
    # Counted as if texts had none of these characters, and exactly only where that is too many.
    if _marks(data) > most and _marks(re.sub(_STRING, b"", data)) > most:
        raise TooManyValues


class Count:
    """Counts what a reader of msgpack builds, container by container, and stops it."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_VALUES

    def take(self, values: int) -> None:
        """Note a container with so many values and keys.

        Raises:
            TooManyValues: together there are too many.
        """
        self.left -= values + 1
        if self.left < 0:
            raise TooManyValues


def _marks(data: bytes) -> int:
    return data.count(b",") + data.count(b":") + data.count(b"[") + data.count(b"{")
