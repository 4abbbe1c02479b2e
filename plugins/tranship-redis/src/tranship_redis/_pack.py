"""Commands as the bytes Redis reads: arrays of length-prefixed strings."""

from __future__ import annotations

from typing import Any, Final

import hiredis

__all__ = ["Part", "bulk", "millis", "pack"]

Part = bytes | str | int | float

_LONGEST: Final = 100 * 365 * 86400.0


def pack(*parts: Part) -> bytes:
    """Return one command; texts as UTF-8, numbers as Python writes them.

    Raises:
        TypeError: a part is something else.
    """
    whole: Any = parts  # its stub takes one part only
    packed: bytes = hiredis.pack_command(whole)
    return packed


def bulk(value: bytes) -> bytes:
    """Return one string of a command, for those who join their commands themselves."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def millis(seconds: float) -> bytes:
    """Return a TTL for PX: whole milliseconds, at least one, and no more than Redis takes."""
    return b"%d" % max(1, round(min(seconds, _LONGEST) * 1000))
