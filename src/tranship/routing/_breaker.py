"""A circuit breaker: pure, told what happened and what time it is."""

from __future__ import annotations

import enum

__all__ = ["Breaker", "Circuit"]


class Circuit(enum.StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    """They do."""
    OPEN = "open"
    """They do not: it has failed too often, or its connection is lost."""
    HALF_OPEN = "half-open"
    """They do not; one probe is under way."""


class Breaker:
    """Opens after ``threshold`` failures in a row; who tries again waits longer each time.

    Args:
        threshold: failures in a row.
        pause: seconds until the first probe.
        longest: seconds between two probes at most.
    """

    def __init__(self, threshold: int, pause: float, longest: float) -> None:
        self.state: Circuit = Circuit.CLOSED
        self.closed_at: float | None = None
        """Since when it has been closed and nothing has failed, on the monotonic clock; None: from the beginning."""
        self.opened_at: float | None = None
        """Since when it has not been."""
        self._threshold = threshold
        self._first = pause
        self._longest = longest
        self._pause = pause
        self._failures = 0

    @property
    def is_closed(self) -> bool:
        """Whether calls go through."""
        return self.state is Circuit.CLOSED

    def failed(self, now: float) -> bool:
        """A call failed; whether that opened it."""
        self._failures += 1
        self.closed_at = now
        return self._failures >= self._threshold and self.trip(now)

    def trip(self, now: float) -> bool:
        """Open it at once; whether it was closed."""
        was_closed = self.is_closed
        if was_closed:
            self.opened_at = now
        self.state = Circuit.OPEN
        return was_closed

    def worked(self) -> None:
        """A call succeeded: only failures in a row count."""
        self._failures = 0

    def probe(self) -> None:
        """One probe is under way."""
        self.state = Circuit.HALF_OPEN

    def close(self, now: float) -> None:
        """The probe succeeded."""
        self.state, self.closed_at, self.opened_at = Circuit.CLOSED, now, None
        self._failures, self._pause = 0, self._first

    def pause(self) -> float:
        """How many seconds to wait before the next probe; twice as long each time."""
        pause, self._pause = self._pause, min(self._pause * 2, self._longest)
        return pause

    def healthy_for(self, now: float) -> float:
        """For how many seconds nothing has failed; 0.0 when it is not closed."""
        if not self.is_closed:
            return 0.0
        return float("inf") if self.closed_at is None else now - self.closed_at
