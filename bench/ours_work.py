"""tranship's side of the rows with a worker in a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import workload
from child import ready, until_told_async
from harness import percentile
from tranship import AsyncClient, Client, Worker
from workload import TASKS, url

LOOK = 0.005


def fill(task: str, amount: int, argument: int):
    payload = "x" * argument
    handler = getattr(workload, task)
    with Client(url()) as client:
        return len(client.submit_many([handler.call(payload) for _ in range(amount)]))


def drain(amount: int, warm: int, limit: int | None):
    """Tasks per second from the moment ``warm`` are done until all are, each with its result stored."""

    async def main():
        worker = Worker(url(), tasks=TASKS, max_concurrent_tasks=limit)
        serving = asyncio.create_task(worker.serve())
        first = await until(serving, lambda: worker.status().done, warm)
        begun = time.perf_counter()
        last = await until(serving, lambda: worker.status().done, warm + amount)
        took = time.perf_counter() - begun
        worker.stop()
        await serving
        return {"rate": (last - first) / took, "done": last}

    return asyncio.run(main())


async def until(serving: asyncio.Task[None], look: Callable[[], int], least: int) -> int:
    """Wait for what a worker tells of itself, which can only be looked at; raise what it failed with."""
    while (found := look()) < least:
        await asyncio.sleep(LOOK)
        if serving.done():
            serving.result()
            raise RuntimeError("the worker has ended")
    return found


def serve(durability: str = "power", limit: int | None = None):
    """A worker until told to stop."""

    async def main():
        worker = Worker(url(durability), tasks=TASKS, max_concurrent_tasks=limit)
        serving = asyncio.create_task(worker.serve())
        await until(serving, lambda: worker.status().ready, least=True)
        ready()
        await until_told_async()
        found = worker.status().done
        worker.stop()
        await serving
        return {"done": found}

    return asyncio.run(main())


def roundtrip(amount: int, warm: int, argument: int, durability: str = "power"):
    """Submit and wait for the result, one after the other, blocking."""
    payload, seconds = "x" * argument, []
    with Client(url(durability)) as client:
        for number in range(warm + amount):
            begun = time.perf_counter()
            assert client.submit(workload.noop, payload).result(timeout=30) == 1
            if number >= warm:
                seconds.append(time.perf_counter() - begun)
    return latencies(seconds)


def roundtrip_async(amount: int, warm: int, argument: int, durability: str = "power"):
    """The same from asyncio."""

    async def main():
        payload, seconds = "x" * argument, []
        async with AsyncClient(url(durability)) as client:
            for number in range(warm + amount):
                begun = time.perf_counter()
                handle = await client.submit(workload.noop, payload)
                assert await handle.result(timeout=30) == 1
                if number >= warm:
                    seconds.append(time.perf_counter() - begun)
        return latencies(seconds)

    return asyncio.run(main())


def wake(amount: int, warm: int, argument: int, every: float, durability: str = "power"):
    """From the start of ``submit`` here to the first line of the handler there; the worker is idle each time."""

    async def main():
        payload, sent, handles = "x" * argument, [], []
        async with AsyncClient(url(durability)) as client:
            for _ in range(warm + amount):
                begun = time.monotonic_ns()
                handles.append(await client.submit(workload.began, payload))
                sent.append((begun, time.monotonic_ns()))
                await asyncio.sleep(every)
            results = await client.collect(handles, timeout=30)
        started = [result.unwrap() for result in results]
        whole = [(at - begun) / 1e9 for (begun, _), at in zip(sent, started, strict=True)][warm:]
        accepted = [(until - begun) / 1e9 for begun, until in sent[warm:]]
        after = [(at - until) / 1e9 for (_, until), at in zip(sent, started, strict=True)][warm:]
        return {
            **latencies(whole),
            "accepted": percentile(accepted, 0.5) * 1e3,
            "after_accepted": percentile(after, 0.5) * 1e3,
            "wanted": warm + amount,
        }

    return asyncio.run(main())


def latencies(seconds: list[float]):
    return {"p50": percentile(seconds, 0.5) * 1e3, "p99": percentile(seconds, 0.99) * 1e3}
