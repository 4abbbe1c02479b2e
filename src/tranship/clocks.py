"""What time it is at the broker, by whose clock deadlines are judged and delayed tasks become due.

Hosts disagree about the time. Who compares a moment in a message with a clock asks the broker's, where the broker has
one: its schedule goes by it, and a second opinion would send tasks back again and again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, Protocol, runtime_checkable

from tranship.errors import TranshipError

__all__ = ["TOLERATED", "Clock", "TellsTime", "clock_of", "look"]

log: logging.Logger = logging.getLogger("tranship.clocks")

TOLERATED: Final = 1.0
"""Seconds by which clocks may differ before anybody is told."""
PATIENCE: Final = 5.0
"""Seconds that the broker may take to say what time it is."""


class Clock:
    """The wall clock of a broker, as far as it is known here; until it is known, this host's own.

    Attributes:
        ahead: seconds by which it is ahead of this host's clock; negative: behind.
        told: whether a difference was warned of.
    """

    __slots__ = ("ahead", "told")

    def __init__(self) -> None:
        self.ahead: float = 0.0
        self.told: bool = False

    def now(self) -> float:
        """Return what time it is there, in epoch seconds; any thread."""
        return time.time() + self.ahead

    def read(self, asked: float, there: float) -> None:
        """Note that it was ``there`` at the broker at some moment between ``asked``, by our own clock, and now.

        What may come from the way to the broker and back is no difference.
        """
        now = time.time()
        ahead = there - (asked + now) / 2
        self.ahead = 0.0 if abs(ahead) <= abs(now - asked) / 2 else ahead


@runtime_checkable
class TellsTime(Protocol):
    """A backend whose broker has a clock of its own and tells it."""

    @property
    def clock(self) -> Clock:
        """The broker's clock; the same object as long as the backend lives. Never raises."""

    async def read_clock(self) -> None:
        """Ask the broker what time it is, and note it in :attr:`clock`; where it does not say, nothing changes
        [delay_under_a_slow_clock, delay_under_a_fast_clock].

        Concurrency: yes. Bound: two round trips. Cancelled: read or not. Retry: never.
        Errors: BrokerUnreachable, BrokerRefused. Closed: ClosedError.
        """


def clock_of(backend: object) -> Clock:
    """Return the clock of the broker behind ``backend``; this host's where the broker has none."""
    return backend.clock if isinstance(backend, TellsTime) else Clock()


async def look(backend: object, place: str) -> Clock:
    """Ask the broker what time it is, and warn once where its clock and ours differ. Raises nothing of a broker's.

    Args:
        backend: opened.
        place: where it is connected, for the warning.
    """
    if not isinstance(backend, TellsTime):
        return Clock()
    clock = backend.clock
    try:
        async with asyncio.timeout(PATIENCE):
            await backend.read_clock()
    except (TranshipError, TimeoutError) as error:
        log.debug("what time it is at %s is not known: %r", place, error)
    if abs(clock.ahead) > TOLERATED and not clock.told:
        clock.told = True
        log.warning(
            "this host's clock is %.1f s %s that of %s: deadlines and delays go by the broker's; "
            "synchronise the clocks (NTP)",
            abs(clock.ahead),
            "behind" if clock.ahead > 0 else "ahead of",
            place,
        )
    return clock
