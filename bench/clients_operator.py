"""The clients of operators, tranship's and the original: they are called alike, so one code measures both.

``package`` is what they are imported from: ``tranship.compat.sandai`` or ``sandai.operator_client``.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from address import redis_url
from harness import percentile
from peer_operator import ARTIFACTS, NAME, VERSION
from sockets import Peak, connections

OPTIONS = {"clip": 10}
WARM = 20


class Package:
    """Makes clients of one package. All that is loaded with the first connection is loaded already.

    Args:
        package: where they are imported from.
        warm: whether to connect once, and give it back.
    """

    def __init__(self, package: str, *, warm: bool = False) -> None:
        self._module = importlib.import_module(package)
        if warm:
            with self.blocking() as client:
                assert client.ping()

    def blocking(self):
        return self._module.create_client(NAME, VERSION, broker_url=redis_url())

    def asynchronous(self):
        return self._module.create_async_client(NAME, VERSION, broker_url=redis_url())


# The pressure test of the document.


def one_client(package: str, requests: int, callers: int):
    """Threads that share one blocking client."""
    client = Package(package, warm=True).blocking()
    return pressed(lambda: in_pool(requests, callers, lambda: client), client.close)


def client_per_thread(package: str, requests: int, callers: int):
    """Threads with a blocking client each."""
    made, own, lock = [], threading.local(), threading.Lock()
    maker = Package(package, warm=True)

    def mine():
        if not hasattr(own, "client"):
            own.client = maker.blocking()
            with lock:
                made.append(own.client)
        return own.client

    return pressed(lambda: in_pool(requests, callers, mine), lambda: [client.close() for client in made])


def one_loop(package: str, requests: int, callers: int):
    """Callers on one event loop, one asynchronous client."""
    maker = Package(package, warm=True)
    return pressed(lambda: asyncio.run(in_loop(maker, requests, callers)))


def many_loops(package: str, requests: int, callers: int, loops: int):
    """The same on several event loops, in a thread each."""

    maker, each = Package(package, warm=True), requests // loops

    def everything() -> None:
        with ThreadPoolExecutor(loops) as pool:
            for done in [pool.submit(asyncio.run, in_loop(maker, each, callers)) for _ in range(loops)]:
                done.result()

    return pressed(everything)


def in_pool(requests: int, callers: int, client: Callable[[], object]) -> None:
    def one(_number: int) -> None:
        artifacts, _ = client().sync(ARTIFACTS, OPTIONS)
        assert artifacts == ARTIFACTS

    with ThreadPoolExecutor(callers) as pool:
        assert len(list(pool.map(one, range(requests)))) == requests


async def in_loop(maker: Package, requests: int, callers: int) -> None:
    async with maker.asynchronous() as client:
        room = asyncio.Semaphore(callers)

        async def one() -> None:
            async with room:
                artifacts, _ = await client.sync(ARTIFACTS, OPTIONS)
                assert artifacts == ARTIFACTS

        await asyncio.gather(*(one() for _ in range(requests)))


def pressed(everything: Callable[[], object], close: Callable[[], object] = lambda: None):
    with Peak() as peak:
        processor, begun = time.process_time(), time.perf_counter()
        everything()
        took, used = time.perf_counter() - begun, time.process_time() - processor
        close()
    return {"wall": took, "connections": peak.most, "cpu": used, "left": connections()}


# One after the other.


def serial_calls(package: str, amount: int):
    """``async_call`` of the blocking client, per second; nobody serves them."""
    client = Package(package).blocking()
    for _ in range(WARM):
        client.async_call(ARTIFACTS, OPTIONS)
    begun = time.perf_counter()
    for _ in range(amount):
        client.async_call(ARTIFACTS, OPTIONS)
    took = time.perf_counter() - begun
    client.close()
    return {"rate": amount / took, "wanted": WARM + amount}


def concurrent_calls(package: str, amount: int, callers: int):
    """``async_call`` of the asynchronous client, from many callers."""

    async def everything() -> float:
        async with Package(package).asynchronous() as client:
            await asyncio.gather(*(client.async_call(ARTIFACTS, OPTIONS) for _ in range(WARM)))
            room, begun = asyncio.Semaphore(callers), time.perf_counter()

            async def one() -> None:
                async with room:
                    await client.async_call(ARTIFACTS, OPTIONS)

            calls: list[Awaitable[None]] = [one() for _ in range(amount)]
            await asyncio.gather(*calls)
            return time.perf_counter() - begun

    return {"rate": amount / asyncio.run(everything()), "wanted": WARM + amount}


def serial_sync(package: str, amount: int):
    """``sync`` of the blocking client, one after the other."""
    client, seconds = Package(package).blocking(), []
    for number in range(WARM + amount):
        begun = time.perf_counter()
        client.sync(ARTIFACTS, OPTIONS)
        if number >= WARM:
            seconds.append(time.perf_counter() - begun)
    client.close()
    return {"p50": percentile(seconds, 0.5) * 1e3, "p99": percentile(seconds, 0.99) * 1e3}
