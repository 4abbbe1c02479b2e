"""SAQ with 100 jobs at once, everything else as it comes."""

from __future__ import annotations

import asyncio

from saq import Queue, Worker

from address import redis_url
from child import ready, until_told_async
from gauge import Gauge

CALLERS = 20
"""As many as its queue lets through at once."""


def fill(amount: int, argument: int):
    async def main() -> None:
        payload, queue, left = "x" * argument, Queue.from_url(redis_url()), iter(range(amount))
        await queue.connect()

        async def caller() -> None:
            for _ in left:
                await queue.enqueue("noop", payload=payload)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        await queue.disconnect()

    asyncio.run(main())


def drain(amount: int, warm: int):
    """Jobs per second of one worker; says ready when the last handler has run."""

    async def main():
        gauge = Gauge(warm, amount, ready)

        async def noop(_context, *, payload):  # noqa: ARG001 - it only has to travel
            gauge.tick()
            return 1

        queue = Queue.from_url(redis_url())
        await queue.connect()
        # Its sweep at the start aborts jobs that have been taken and are not marked as active yet: not now.
        await queue.redis.set(queue.namespace("sweep"), 1, ex=600)
        worker = Worker(queue, functions=[("noop", noop)], concurrency=100)
        working = asyncio.create_task(worker.start())
        await until_told_async()
        await worker.stop()
        await working
        await queue.disconnect()
        return {"rate": gauge.rate}

    return asyncio.run(main())
