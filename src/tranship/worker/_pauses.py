"""The pauses between two attempts to reach a broker."""

from __future__ import annotations

from typing import Final

__all__ = ["Pauses"]

FIRST: Final = 0.1
LONGEST: Final = 5.0


class Pauses:
    """Seconds to wait after each attempt that failed: twice as long each time, up to a bound."""

    def __init__(self) -> None:
        self._following = FIRST

    def next(self) -> float:
        """Return how long to wait now."""
        pause = self._following
        self._following = min(pause * 2, LONGEST)
        return pause

    def reset(self) -> None:
        """An attempt has worked, or something has changed."""
        self._following = FIRST
