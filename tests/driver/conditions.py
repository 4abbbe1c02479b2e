"""Waiting for what is going to be true, with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], what: str, within: float = 5.0) -> None:
    """Return once it is true, by the loop's clock in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while not condition():
        assert loop.time() < end, f"{what}: not within {within} s"
        await asyncio.sleep(0.005)
