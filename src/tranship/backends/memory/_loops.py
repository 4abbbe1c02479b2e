"""Reaching an event loop from whatever thread changed the shared state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["call_on"]


def call_on(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> bool:
    """Have ``loop`` call ``callback`` soon; False: it is closed, and nobody is left to tell."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    try:
        if running is loop:
            loop.call_soon(callback)
        else:
            loop.call_soon_threadsafe(callback)
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True
