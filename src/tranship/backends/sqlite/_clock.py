"""Two clocks: leases run on the monotonic one where it is shared by all processes of the host."""

from __future__ import annotations

import sys
import time
from pathlib import Path

__all__ = ["boot_id", "lease_clock"]


def lease_clock() -> float:
    """Seconds on the clock that lease ends are written in.

    On Linux it is the monotonic clock, which all processes of a host share: neither a step of the wall clock
    nor a laptop's sleep ends a lease. A new :func:`boot_id` says that its values have lost their meaning.
    Elsewhere it is the wall clock.
    """
    return time.monotonic() if sys.platform == "linux" else time.time()


def boot_id() -> str:
    """What changes with every boot, or an empty text where that cannot be told."""
    if sys.platform != "linux":
        return ""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
