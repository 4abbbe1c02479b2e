"""A worker with tasks that have limits by key, which the tests kill: ``python -m chaos.limits_worker URL LOG``.

Each line of LOG is the beginning or the end of a run: who, of which kind, which key and number. Appends are in the order
in which they were made, whichever process made them.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from tranship import Worker, task

LOG = "CHAOS_LOG"
LIMIT = 2
LONGEST = 0.004
"""Seconds that a task takes, at the most."""

_log: list[int] = []


def note(what: str, kind: str, key: str, number: int) -> None:
    """Append a line; short appends do not mix."""
    if not _log:
        _log.append(os.open(Path(os.environ[LOG]), os.O_WRONLY | os.O_APPEND))
    os.write(_log[0], f"{what} {os.getpid()} {kind} {key} {number}\n".encode())


async def run(kind: str, key: str, number: int) -> None:
    """Take a moment, between two lines."""
    note("start", kind, key, number)
    await asyncio.sleep(random.uniform(0, LONGEST))
    note("stop", kind, key, number)


@task(name="chaos.limited", queue="limits", limit=LIMIT, key=lambda key: key)
async def limited(key: str, number: int) -> None:
    """Run beside one other of its key, at most."""
    await run("limited", key, number)


@task(name="chaos.ordered", queue="limits", ordered=True, key=lambda key: key)
async def ordered(key: str, number: int) -> None:
    """Run when the one before it has ended."""
    await run("ordered", key, number)


@task(name="chaos.free", queue="limits")
async def free(key: str, number: int) -> None:
    """Run as it comes."""
    await run("free", key, number)


def main(url: str, log: str) -> None:
    os.environ[LOG] = log
    Worker(url, tasks=[limited, ordered, free], max_concurrent_tasks=32, max_deliveries=20).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
