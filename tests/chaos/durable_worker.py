"""A worker with tasks that sleep and wait, which the tests kill: ``python -m chaos.durable_worker URL LOG``.

Each line of LOG is what was done, by the task that did it.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from tranship import Worker, current, task

LOG = "CHAOS_LOG"
SLEEP = (5.0, 15.0)
"""Seconds of each sleep, at least and at most."""


def note(what: str) -> str:
    """Append a line; short appends do not mix."""
    with Path(os.environ[LOG]).open("ab", buffering=0) as log:
        log.write(f"{current().id} {what}\n".encode())
    return what


def draw() -> float:
    """How long to sleep."""
    return random.uniform(*SLEEP)


@task(name="chaos.sleeps", queue="durable")
async def sleeps(number: int) -> int:
    """Sleep between two steps, each of which is seen to go on after it was kept."""
    seconds = await current().step("draw", draw)
    await current().step("before", note, "before")
    note("kept-before")
    await current().sleep(seconds)
    await current().step("after", note, "after")
    note("kept-after")
    await asyncio.sleep(0.05)
    return number


@task(name="chaos.waits", queue="durable")
def waits(number: int) -> int:
    """Wait for an event between two steps, in a thread."""
    current().step("before", note, "before")
    note("kept-before")
    said: int = current().wait_event("go")
    current().step("after", note, "after")
    note("kept-after")
    return number + said


def main(url: str, log: str) -> None:
    os.environ[LOG] = log
    Worker(url, tasks=[sleeps, waits], max_concurrent_tasks=16, max_deliveries=20).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
