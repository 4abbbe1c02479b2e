"""Waiting for what has to happen, with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], within: float = 20.0) -> None:
    """Return when ``condition`` is true; TimeoutError after ``within`` seconds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.002)
