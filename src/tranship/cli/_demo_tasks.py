"""What the worker of ``tranship demo`` runs."""

from __future__ import annotations

import asyncio
import time

from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import current, task

__all__ = ["QUEUE", "echo", "flaky", "hopeless", "long", "work"]

QUEUE = "demo"

WORK_SECONDS = 0.02


@task(name="demo.work", queue=QUEUE)
def work(number: int) -> int:
    """A short piece of blocking work."""
    time.sleep(WORK_SECONDS)
    return number * number


@task(name="demo.flaky", queue=QUEUE, retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.2)))
async def flaky(number: int) -> int:
    """Fails at first and succeeds when it is tried again."""
    if current().attempt == 0:
        raise ConnectionError(f"flaky {number} fails once, on purpose")
    return number


@task(name="demo.hopeless", queue=QUEUE, retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.2)))
async def hopeless() -> None:
    """Fails always, and ends among the dead letters."""
    raise ValueError("this task fails every time, on purpose")


@task(name="demo.long", queue=QUEUE)
async def long(seconds: float) -> None:
    """Runs until it is cancelled."""
    await asyncio.sleep(seconds)


@task(name="demo.echo", queue=QUEUE, priority="high")
async def echo(number: int) -> int:
    """Nothing but the way there and back."""
    return number
