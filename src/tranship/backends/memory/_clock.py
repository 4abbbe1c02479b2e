"""The two clocks of the memory broker, replaceable in tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def _wall() -> float:
    # Looked up each time: a test's clock may be in use, see tranship.testing.clock.
    return time.time()


def _steady() -> float:
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the broker takes the time from.

    After moving a clock of your own forward, call ``MemoryBroker.wake()``: timers run on the loop's time.
    """

    wall: Callable[[], float] = _wall
    """Epoch seconds: not-before times and tombstones, which others computed."""
    steady: Callable[[], float] = _steady
    """Seconds that never jump: leases, windows, times to live."""
