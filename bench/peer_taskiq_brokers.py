"""taskiq on RabbitMQ (results in Redis: it has no others there) and on NATS JetStream, else as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from taskiq.api import run_receiver_task

import address
from child import ready, until_told_async

NOOP = "bench:noop"
CHECK = 0.01
"""Seconds between two looks for a result."""


def make():
    url = address.given()
    broker = on_nats(url) if url.startswith("nats") else on_rabbitmq(url)

    @broker.task(task_name=NOOP)
    async def noop(payload: str) -> int:  # noqa: ARG001 - it only has to travel
        return 1

    return broker, noop


def on_nats(url: str):
    from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker

    return PullBasedJetStreamBroker([url]).with_result_backend(NATSObjectStoreResultBackend([url]))


def on_rabbitmq(url: str):
    from taskiq_aio_pika import AioPikaBroker
    from taskiq_redis import RedisAsyncResultBackend

    results = Path(address.RESULTS)
    broker = AioPikaBroker(url)
    return broker.with_result_backend(RedisAsyncResultBackend(results.read_text())) if results.exists() else broker


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


def serve():
    """A receiver until told to stop, 100 tasks at once."""

    async def main():
        broker, _ = make()
        receiving = asyncio.create_task(run_receiver_task(broker, run_startup=True))
        await asyncio.sleep(2)  # it does not say when it is ready
        ready()
        await until_told_async()
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
        await broker.shutdown()
        return {"done": 0}

    return asyncio.run(main())


def in_flight(amount: int, callers: int, warm: int, argument: int):
    """Round trips per second from many callers at once, each one after the other."""

    async def main():
        payload = "x" * argument
        broker, noop = make()
        await broker.startup()

        async def caller(count: int) -> None:
            for _ in range(count):
                task = await noop.kiq(payload)
                result = await task.wait_result(check_interval=CHECK, timeout=30)
                assert result.return_value == 1

        await asyncio.gather(*(caller(max(1, warm // callers)) for _ in range(callers)))
        begun = time.perf_counter()
        each = amount // callers
        await asyncio.gather(*(caller(each) for _ in range(callers)))
        took = time.perf_counter() - begun
        await broker.shutdown()
        return {"rate": each * callers / took}

    return asyncio.run(main())
