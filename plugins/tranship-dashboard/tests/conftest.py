"""A broker with a worker on it, and a dashboard in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from dashboard_kit import TASKS, TOKEN, Browser, browser_of

from tranship import Client, Worker
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker
from tranship_dashboard import Dashboard


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    # Nobody waits a second for what is written once a second.
    monkeypatch.setattr("tranship.worker._history.EVERY", 0.05)
    return Settings.load(broker_url=f"memory://dash-{uuid4().hex}", history=200, heartbeat_interval=0.1)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings=settings) as client:
        yield client


@pytest.fixture
def worker(settings: Settings, client: Client) -> Iterator[BackgroundWorker]:
    with BackgroundWorker(Worker(settings=settings, tasks=TASKS, name="w1")) as working:
        yield working


@pytest.fixture
async def dashboard(settings: Settings, client: Client) -> AsyncIterator[Dashboard]:
    made = Dashboard(settings=settings, tasks=TASKS, token=TOKEN)
    yield made
    await made.aclose()


@pytest.fixture
async def browser(dashboard: Dashboard) -> AsyncIterator[Browser]:
    async with browser_of(dashboard) as browser:
        await browser.get("/", params={"token": TOKEN})
        yield browser


@pytest.fixture
async def looked(dashboard: Dashboard, browser: Browser) -> Callable[..., Any]:
    """Have the source look until a page shows something."""

    async def until(path: str, *texts: str) -> str:
        page = ""
        async with asyncio.timeout(20):
            while True:
                await dashboard._source.look()
                page = (await browser.get(path)).text
                if all(text in page for text in texts):
                    return page
                await asyncio.sleep(0.05)

    return until
