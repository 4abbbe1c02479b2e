"""Messages that are not due: none of kombu's transports has a schedule, so that workers hold them, as Celery's do."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tranship_kombu._held import Held

__all__ = ["Early", "WaitingRoom", "due_of"]

_MOST: Final = 2000
"""Messages that are held because they are not due; with more of them, nothing is taken until some are."""


def due_of(message: Any) -> float:
    """Return when a message may be run, in epoch seconds; 0: at once, or its time cannot be read."""
    headers = message.headers if isinstance(message.headers, Mapping) else {}
    exact, written = headers.get("tranship-not-before"), headers.get("eta")
    if isinstance(exact, int | float) and math.isfinite(exact):
        return float(exact)
    try:
        moment = datetime.fromisoformat(written) if isinstance(written, str) else None
    except ValueError:
        return 0.0
    if moment is None:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@dataclass(slots=True, eq=False)
class Early:
    """One message that was taken and is not due."""

    due: float
    until: float
    """When the broker gives it to somebody else, by the monotonic clock."""
    held: Held
    message: Any


class WaitingRoom:
    """What a connection holds until it is due.

    Args:
        hold: seconds after which the broker takes back what is held, whatever we do; None: it does not.
        lease: seconds that a lease lasts; None: there are none.
        renew: has leases renewed, soon.
    """

    def __init__(self, hold: float | None, lease: float | None, renew: Callable[[Sequence[Held]], None]) -> None:
        self._hold, self._lease, self._renew = hold or math.inf, lease, renew
        self._early: list[Early] = []
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return bool(self._early)

    @property
    def full(self) -> bool:
        """Whether there is no place for more."""
        return len(self._early) >= _MOST

    def add(self, due: float, held: Held, message: Any) -> None:
        """Keep a message until it is due."""
        self._early.append(Early(due, time.monotonic() + self._hold, held, message))
        if self._lease is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._lease / 3, self._renew_all)

    def due(self, queues: Collection[str], limit: int) -> list[tuple[Held, Any]]:
        """Take out what is due by now, and forget what is ours no more."""
        now = time.monotonic()
        self._early = [one for one in self._early if one.held.ours and one.until > now]
        ready = [one for one in self._early if one.due <= time.time() and one.held.queue in queues][:limit]
        if ready:
            taken = set(map(id, ready))
            self._early = [one for one in self._early if id(one) not in taken]
        return [(one.held, one.message) for one in sorted(ready, key=lambda one: one.due)]

    def next_in(self, queues: Collection[str]) -> float:
        """Return the seconds until one of them is due; infinite: none is."""
        dues = (one.due for one in self._early if one.held.queue in queues)
        return max(min(dues, default=math.inf) - time.time(), 0.001)

    def close(self) -> None:
        """Renew nothing any more; the connection gives back what is held when it is closed."""
        if self._timer is not None:
            self._timer.cancel()

    def _renew_all(self) -> None:
        self._timer = None
        if self._early and self._lease is not None:
            self._renew([one.held for one in self._early])
            self._timer = asyncio.get_running_loop().call_later(self._lease / 3, self._renew_all)
