"""Whether somebody has cancelled what runs here, or it has raised CancelledError by itself."""

from __future__ import annotations

import asyncio

__all__ = ["being_cancelled", "uncancel"]


def being_cancelled() -> bool:
    """Whether somebody has cancelled the running asyncio task."""
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


def uncancel() -> None:
    """Take one cancellation of the running asyncio task for heeded."""
    current = asyncio.current_task()
    if current is not None:
        current.uncancel()
