"""Every so many seconds, the same moments in every process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tranship.checks import Duration, duration, invalid

__all__ = ["Every"]

SHORTEST: Final = 0.1
"""Seconds. Whatever is to be done more often is a loop in a task."""
RESOLUTION: Final = 1000
"""Parts of a second in which lengths are counted: floats would drift."""


@dataclass(frozen=True)
class Every:
    """The multiples of a length of time since 1970 in UTC: nobody has to remember when it began.

    Raises:
        InvalidOptionError: it is no length of time, or too short.
    """

    every: Duration

    def __post_init__(self) -> None:
        seconds = duration("every", self.every)
        if seconds < SHORTEST:
            raise invalid("every", self.every, f"seconds, or a timedelta, of at least {SHORTEST}")
        object.__setattr__(self, "every", round(seconds * RESOLUTION) / RESOLUTION)

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        seconds: Any = self.every  # converted when it was made
        return float(seconds)

    def after(self, moment: float) -> float:
        """Return the first tick behind ``moment``, both in epoch seconds."""
        step = round(self.seconds * RESOLUTION)
        return (int(moment * RESOLUTION + 1e-3) // step + 1) * step / RESOLUTION

    def __str__(self) -> str:
        return f"every {self.seconds:g} s"
