"""Events that are told: whoever waits for one goes on at once, and nobody loses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tranship import AsyncClient, Worker, current, task
from tranship.worker import _awaited, _durable

FAR = 18.0
"""Seconds until an event is looked for, in these tests."""

runs: list[str] = []


@task(name="awaited.asks", queue="awaited")
async def asks() -> Any:
    """Wait for an answer."""
    runs.append(current().id)
    return await current().wait_event("answer with spaces, and ümlauts")


NAME = "answer with spaces, and ümlauts"


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A broker of the test's own, where events are looked for seldom."""
    monkeypatch.setattr(_durable, "FIRST_LOOK", FAR)
    monkeypatch.setattr(_durable, "LAST_LOOK", FAR)
    runs.clear()
    return f"memory://{request.node.originalname}" if request.param == "memory" else f"sqlite:///{tmp_path}/events.db"


async def until(condition: Callable[[], bool]) -> None:
    """Return when it is true, or fail."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a worker has no event for it
            await asyncio.sleep(0.01)


def working(url: str, body: Callable[[AsyncClient, Worker], Awaitable[None]], **options: Any) -> None:
    """Run ``body`` beside a worker."""

    async def main() -> None:
        worker = Worker(url, tasks=[asks], **options)
        async with AsyncClient(url) as client:
            serving = asyncio.create_task(worker.serve())
            try:
                await body(client, worker)
            finally:
                worker.stop()
                await serving

    asyncio.run(main())


def test_it_goes_on_at_once(url: str) -> None:
    """Long before it is looked for; many wait without a slot, and each hears of its own event alone."""

    async def body(client: AsyncClient, worker: Worker) -> None:
        # More than a worker with one slot has in hand otherwise.
        handles = [await client.submit(asks) for _ in range(100)]
        await until(lambda: len(runs) == 100 and not worker.status().running)
        began = time.monotonic()
        assert await handles[7].send_event(NAME, 7)
        assert await handles[7].result(timeout=FAR - 8) == 7
        for number in (3, 99):
            assert await handles[number].send_event(NAME, number)
            assert await handles[number].result(timeout=FAR - 8) == number
        assert time.monotonic() - began < FAR - 2
        assert len(runs) == 103

    working(url, body, max_concurrent_tasks=1)


def test_who_is_cancelled_ends_at_once(url: str) -> None:
    """As it does on the broker's schedule."""

    async def body(client: AsyncClient, worker: Worker) -> None:
        handle = await client.submit(asks)
        await until(lambda: bool(runs) and not worker.status().running)
        await handle.cancel()
        assert (await handle.wait(timeout=FAR - 8)).state.name == "CANCELLED"

    working(url, body)


def test_a_worker_that_stops_leaves_it_on_the_schedule(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops at once, and the task goes on at the next worker, as if it had never been held."""
    monkeypatch.setattr(_durable, "FIRST_LOOK", 1.0)
    found: list[Any] = []

    async def first(client: AsyncClient, worker: Worker) -> None:
        found.append(await client.submit(asks))
        await until(lambda: bool(runs) and not worker.status().running)
        worker.stop()
        await until(lambda: not worker.status().connected)
        await client.send_event(found[0].id, NAME, "later")
        async with asyncio.timeout(60):
            await Worker(url, tasks=[asks]).serve_until_idle(60)
        assert await client.handle(found[0].id).result(timeout=5) == "later"
        assert len(runs) == 2

    working(url, first)


def test_more_than_are_held_are_looked_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost by it."""
    monkeypatch.setattr(_awaited, "MOST", 1)
    monkeypatch.setattr(_durable, "FIRST_LOOK", 0.5)
    monkeypatch.setattr(_durable, "LAST_LOOK", 0.5)

    async def body(client: AsyncClient, worker: Worker) -> None:
        handles = [await client.submit(asks) for _ in range(3)]
        await until(lambda: len(runs) >= 3 and not worker.status().running)
        for number, handle in enumerate(handles):
            assert await handle.send_event(NAME, number)
        assert [await one.result(timeout=15) for one in handles] == [0, 1, 2]

    working(url, body)
