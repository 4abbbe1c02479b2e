"""The two clocks of the memory broker, replaceable in tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the broker takes the time from.

    After moving a clock of your own forward, call ``MemoryBroker.wake()``: timers run on the loop's time.
    """

    wall: Callable[[], float] = time.time
    """Epoch seconds: not-before times and tombstones, which others computed."""
    steady: Callable[[], float] = time.monotonic
    """Seconds that never jump: leases, windows, times to live."""
