"""taskiq with ListQueueBroker and RedisAsyncResultBackend, everything else as it comes (100 tasks at once)."""

from __future__ import annotations

import asyncio
import contextlib
import time

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from address import redis_url
from child import ready, until_told_async
from gauge import Gauge

NOOP = "bench:noop"


def make(gauge: Gauge | None = None):
    url = redis_url()
    broker = ListQueueBroker(url).with_result_backend(RedisAsyncResultBackend(url, result_ex_time=86_400))

    @broker.task(task_name=NOOP)
    async def noop(payload: str) -> int:  # noqa: ARG001 - it only has to travel
        if gauge is not None:
            gauge.tick()
        return 1

    return broker, noop


def concurrent(amount: int, callers: int, argument: int):
    """``kiq`` per second from many callers at once, each one after the other."""

    async def main():
        payload, each = "x" * argument, amount // callers
        broker, noop = make()
        await broker.startup()

        async def caller(count: int) -> None:
            for _ in range(count):
                await noop.kiq(payload)

        await asyncio.gather(*(caller(2) for _ in range(callers)))
        begun = time.perf_counter()
        await asyncio.gather(*(caller(each) for _ in range(callers)))
        took = time.perf_counter() - begun
        await broker.shutdown()
        return {"rate": each * callers / took, "wanted": (each + 2) * callers}

    return asyncio.run(main())


def fill(amount: int, argument: int):
    callers = 50
    concurrent(amount - 2 * callers, callers, argument)


def drain(amount: int, warm: int):
    """Tasks per second of one receiver; says ready when the last handler has run."""

    async def main():
        gauge = Gauge(warm, amount, ready)
        broker, _ = make(gauge)
        receiving = asyncio.create_task(run_receiver_task(broker, run_startup=True))
        await until_told_async()
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
        await broker.shutdown()
        return {"rate": gauge.rate}

    return asyncio.run(main())
