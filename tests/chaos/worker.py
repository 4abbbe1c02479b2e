"""A worker in a process of its own that the tests kill: ``python -m chaos.worker URL LOG CONCURRENCY MAX_DELIVERIES``.

Every start of a handler is one line in LOG, written before anything else happens.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from tranship import Worker, current, task

LOG = "CHAOS_LOG"


def note() -> None:
    """Append a line: which task, when, in which process, in which delivery; short appends do not mix."""
    with Path(os.environ[LOG]).open("ab", buffering=0) as log:
        log.write(f"{current().id} {time.time()} {os.getpid()} {current().delivery_count}\n".encode())


@task(name="chaos.work", queue="chaos")
async def work(number: int, seconds: float) -> int:
    """Take a while on the loop."""
    note()
    await asyncio.sleep(seconds)
    return number


@task(name="chaos.work-thread", queue="chaos")
def work_in_thread(number: int, seconds: float) -> int:
    """Take a while in a thread."""
    note()
    time.sleep(seconds)
    return number


@task(name="chaos.poison", queue="chaos")
async def poison(how: str) -> None:
    """Take the worker along."""
    note()
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, log: str, concurrency: str, max_deliveries: str) -> None:
    os.environ[LOG] = log
    Worker(
        url,
        tasks=[work, work_in_thread, poison],
        max_concurrent_tasks=int(concurrency),
        max_deliveries=int(max_deliveries),
    ).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
