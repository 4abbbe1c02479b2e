"""Workers and what is waited for, for tests on a loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from tranship import Worker
from tranship.settings import Settings


@contextlib.asynccontextmanager
async def at_work(
    url: str, *tasks: Any, name: str = "worker-1", every: float = 1.0, **options: Any
) -> AsyncIterator[Worker]:
    """A worker that works until the block is left, and sends a heartbeat ``every`` so many seconds."""
    settings = Settings.load(broker_url=url, heartbeat_interval=every)
    worker = Worker(settings=settings, tasks=list(tasks), name=name, **options)
    serving = asyncio.create_task(worker.serve())
    try:
        yield worker
        if serving.done():
            serving.result()
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def until(look: Callable[[], Any], within: float = 40.0) -> Any:
    """Return the first of what ``look`` returns that is true; what asks by HTTP is asked in a thread."""
    async with asyncio.timeout(within):
        while not (found := look()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        return found


async def asked(function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Call what blocks in a thread."""
    return await asyncio.to_thread(function, *arguments, **more)
