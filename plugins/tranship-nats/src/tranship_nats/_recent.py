"""What this process has settled lately: a server that was killed may hand it out again.

The server writes down what it has removed some time after it has said so. Killed in between it has everything again,
and would let hundreds of tasks run twice that have ended well.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Recent"]

_MOST: Final = 20_000


class Recent:
    """Marks of messages that are done with; the oldest are forgotten."""

    def __init__(self) -> None:
        self._marks: dict[bytes, None] = {}

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._marks

    def add(self, mark: bytes) -> None:
        """The message has been settled for good."""
        self._marks[mark] = None
        if len(self._marks) > _MOST:
            del self._marks[next(iter(self._marks))]
