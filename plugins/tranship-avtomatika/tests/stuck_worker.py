"""A worker that says when it has a task, and never ends it: ``stuck_worker.py URL NAME``."""

from __future__ import annotations

import asyncio
import sys

from tranship import Worker, task
from tranship.settings import Settings


@task(name="once")
async def once(params: dict) -> None:
    print("has it", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    settings = Settings.load(broker_url=sys.argv[1], heartbeat_interval=1.0)
    Worker(settings=settings, tasks=[once], name=sys.argv[2], max_concurrent_tasks=1).run()
