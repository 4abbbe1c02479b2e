"""tranship's side of what is measured on Redis only."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from child import ready
from gauge import in_threads
from tranship import AsyncClient, Client
from workload import noop, url

WARM = 200
BATCH = 500


def sample(argument: int):
    """Submit one task, to look at its bytes."""
    with Client(url()) as client:
        client.submit(noop, "x" * argument)


def threads(amount: int, threads: int, argument: int):
    """``Client.submit`` from many threads, one client for all of them."""
    payload, each = "x" * argument, amount // threads
    with Client(url()) as client:
        took = in_threads(threads, each, lambda: client.submit(noop, payload))
    return {"rate": each * threads / took, "wanted": (each + 2) * threads}


def many_expected(amount: int, argument: int):
    """``AsyncClient.submit_many``, until every result is subscribed to and has been looked for once."""

    async def main():
        payload = "x" * argument
        async with AsyncClient(url()) as client:
            warm = await client.submit_many([noop.call(payload) for _ in range(WARM)])
            first = asyncio.create_task(client.collect(warm))
            await expected(client, WARM)
            begun = time.perf_counter()
            handles = await client.submit_many([noop.call(payload) for _ in range(amount)])
            waiting = asyncio.create_task(client.collect(handles))
            await expected(client, WARM + amount)
            took = time.perf_counter() - begun
            ready()  # the server is asked now
            await asyncio.wait({first, waiting}, timeout=60)
            assert all(one.success for one in [*first.result(), *waiting.result()])
        return {"rate": amount / took}

    return asyncio.run(main())


async def expected(client: AsyncClient, count: int) -> None:
    """Wait until ``count`` results are waited for and nothing is left to be read."""
    waiting = client._connector.any_link().waiting
    while len(waiting) < count or waiting._unread:
        await asyncio.sleep(0)
        if waiting._reader is not None:
            await asyncio.wait({waiting._reader})


def in_flight(amount: int, callers: int, warm: int, argument: int):
    """Round trips per second from many callers at once, each one after the other."""

    async def main():
        payload = "x" * argument
        async with AsyncClient(url()) as client:

            async def caller(count: int) -> None:
                for _ in range(count):
                    handle = await client.submit(noop, payload)
                    assert await handle.result(timeout=30) == 1

            await asyncio.gather(*(caller(warm // callers) for _ in range(callers)))
            begun = time.perf_counter()
            await asyncio.gather(*(caller(amount // callers) for _ in range(callers)))
            took = time.perf_counter() - begun
        return {"rate": amount // callers * callers / took, "wanted": (amount // callers + warm // callers) * callers}

    return asyncio.run(main())


def in_flight_threads(amount: int, callers: int, argument: int):
    """The same from many threads."""
    payload, each = "x" * argument, amount // callers
    with Client(url()) as client:

        def trip() -> None:
            assert client.submit(noop, payload).result(timeout=30) == 1

        took = in_threads(callers, each, trip)
    return {"rate": each * callers / took, "wanted": (each + 2) * callers}


# Waiting handles.


def handles(amount: int, argument: int, how: str, gauge: str):
    """Bytes of client memory per handle that is waited for; says ready when all of them are."""

    async def main():
        async with AsyncClient(url()) as client:
            warm = await wait_for(client, WARM, argument, how)  # caches, and what a first time costs
            look = GAUGES[gauge]
            before = look()
            waiters = await wait_for(client, amount, argument, how)
            taken = look() - before
            ready()
            await asyncio.wait([*warm, *waiters], timeout=60)
            assert values(warm) + values(waiters) == [1] * (WARM + amount)
        return {"bytes": taken / amount}

    return asyncio.run(main())


async def wait_for(client: AsyncClient, amount: int, argument: int, how: str):
    """Submit ``amount`` tasks in batches and wait for all of them, with one task or with one each."""
    payload, handles = "x" * argument, []
    before = len(client._connector.any_link().waiting)
    for start in range(0, amount, BATCH):
        calls = [noop.call(payload) for _ in range(min(BATCH, amount - start))]
        handles += await client.submit_many(calls)
    if how == "collect":
        waiters = [asyncio.create_task(client.collect(handles))]
    else:
        waiters = [asyncio.create_task(handle.result()) for handle in handles]
    await expected(client, before + amount)
    return waiters


def values(waiters: list[asyncio.Task]) -> list[int]:
    """The values of all tasks, waited for in either way."""
    found = []
    for waiter in waiters:
        got = waiter.result()
        found += [result.unwrap() for result in got] if isinstance(got, list) else [got]
    return found


def traced() -> int:
    """Bytes that Python's allocators have handed out and that are in use."""
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    return tracemalloc.get_traced_memory()[0]


def resident() -> int:
    """Bytes of resident memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


GAUGES: dict[str, Callable[[], int]] = {"traced": traced, "resident": resident}
