"""FastStream's list publish, as its documentation shows it."""

from __future__ import annotations

import asyncio
import time

from faststream.redis import RedisBroker

from address import redis_url

LIST = "bench"


def concurrent(amount: int, callers: int, argument: int):
    """Publishes per second from many callers at once, each one after the other."""

    async def main():
        payload, each = "x" * argument, amount // callers

        async def caller(broker: RedisBroker, count: int) -> None:
            for _ in range(count):
                await broker.publish(payload, list=LIST)

        async with RedisBroker(redis_url()) as broker:
            await asyncio.gather(*(caller(broker, 2) for _ in range(callers)))
            begun = time.perf_counter()
            await asyncio.gather(*(caller(broker, each) for _ in range(callers)))
            took = time.perf_counter() - begun
        return {"rate": each * callers / took, "wanted": (each + 2) * callers}

    return asyncio.run(main())
