"""tranship's side of the submit rows: argument check, envelope and handle included."""

from __future__ import annotations

import asyncio
import statistics
import time

from harness import percentile
from tranship import AsyncClient, Client
from workload import noop, unheard, url

WARM = 200


def many(amount: int, repeats: int, argument: int, *, results: bool = True):
    """``Client.submit_many``."""
    payload, seconds, noop = "x" * argument, [], wanted_task(results=results)
    with Client(url()) as client:
        client.submit_many([noop.call(payload) for _ in range(WARM)])
        for _ in range(repeats):
            begun = time.perf_counter()
            handles = client.submit_many([noop.call(payload) for _ in range(amount)])
            seconds.append(time.perf_counter() - begun)
            assert len(handles) == amount
    return {"rate": amount / statistics.median(seconds), "wanted": WARM + amount * repeats}


def many_async(amount: int, repeats: int, argument: int, *, results: bool = True):
    """``AsyncClient.submit_many``."""

    async def main():
        payload, seconds, noop = "x" * argument, [], wanted_task(results=results)
        async with AsyncClient(url()) as client:
            await client.submit_many([noop.call(payload) for _ in range(WARM)])
            for _ in range(repeats):
                begun = time.perf_counter()
                handles = await client.submit_many([noop.call(payload) for _ in range(amount)])
                seconds.append(time.perf_counter() - begun)
                assert len(handles) == amount
        return {"rate": amount / statistics.median(seconds), "wanted": WARM + amount * repeats}

    return asyncio.run(main())


def concurrent(amount: int, callers: int, argument: int, *, results: bool = True):
    """``AsyncClient.submit`` from many callers at once, each one after the other."""

    async def main():
        payload, each, noop = "x" * argument, amount // callers, wanted_task(results=results)

        async def caller(client: AsyncClient, count: int) -> None:
            for _ in range(count):
                await client.submit(noop, payload)

        async with AsyncClient(url()) as client:
            await asyncio.gather(*(caller(client, 2) for _ in range(callers)))
            begun = time.perf_counter()
            await asyncio.gather(*(caller(client, each) for _ in range(callers)))
            took = time.perf_counter() - begun
        return {"rate": each * callers / took, "wanted": (each + 2) * callers}

    return asyncio.run(main())


def serial(amount: int, argument: int):
    """``Client.submit``, one after the other."""
    payload, seconds = "x" * argument, []
    with Client(url()) as client:
        for _ in range(WARM):
            client.submit(noop, payload)
        begun = last = time.perf_counter()
        for _ in range(amount):
            client.submit(noop, payload)
            now = time.perf_counter()
            seconds.append(now - last)
            last = now
    return figures(amount, last - begun, seconds)


def serial_async(amount: int, argument: int):
    """``await AsyncClient.submit``, one after the other."""

    async def main():
        payload, seconds = "x" * argument, []
        async with AsyncClient(url()) as client:
            for _ in range(WARM):
                await client.submit(noop, payload)
            begun = last = time.perf_counter()
            for _ in range(amount):
                await client.submit(noop, payload)
                now = time.perf_counter()
                seconds.append(now - last)
                last = now
        return figures(amount, last - begun, seconds)

    return asyncio.run(main())


def wanted_task(*, results: bool):
    return noop if results else unheard


def figures(amount: int, took: float, seconds: list[float]):
    return {
        "rate": amount / took,
        "p50": percentile(seconds, 0.5) * 1e3,
        "p99": percentile(seconds, 0.99) * 1e3,
        "wanted": WARM + amount,
    }
