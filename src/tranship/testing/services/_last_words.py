"""What of a server's log says why it has ended."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["last_words"]

_TAIL: Final = 20
_HEAD: Final = 30


def last_words(log: str, crash: str = "") -> str:
    """Return the last lines of a log, and before them what a crash began with.

    Args:
        log: all of it.
        crash: regular expression for the first line of a report of a crash, which may be much longer than the tail;
            empty: the server has none.
    """
    lines = log.splitlines()
    end = max(0, len(lines) - _TAIL)
    begin = next((number for number, line in enumerate(lines[:end]) if crash and re.search(crash, line)), end)
    skipped = end - begin - _HEAD
    between = [f"[... {skipped} lines ...]"] if skipped > 0 else []
    return "\n".join([*lines[begin : min(end, begin + _HEAD)], *between, *lines[end:]])
