"""The end of the process: output flushed, nobody kept waiting by a thread that never returns."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn

__all__ = ["last_resort", "leave"]

GRACE = 5.0
"""Seconds that other threads get to end."""


def leave(code: int) -> NoReturn:
    """End the process with ``code``; after a grace period, also if threads of user code go on."""
    code = _flushed(code)
    last_resort(code).start()
    sys.exit(code)


def last_resort(code: int) -> threading.Timer:
    """A timer that ends the process hard once the grace period is over; start it, or cancel it."""
    timer = threading.Timer(GRACE, os._exit, [code])
    timer.daemon = True
    return timer


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has gone; flushing again at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or 1
    return code
