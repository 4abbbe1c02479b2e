"""An open backend, seen from inside: what its ports share, for tests of single ports."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis_link import Link

from tranship.driver import Row, facts_read, pack
from tranship.driver._nouns import stamp
from tranship.settings import BackendConfig, BrokerURL
from tranship_redis._backend import RedisDriver
from tranship_redis._context import Context
from tranship_redis._element import read
from tranship_redis._options import RedisOptions


class OpenContext(Context):
    """What the ports of one backend share, with the sockets of whatever connection there is."""

    def __init__(self, driver: RedisDriver) -> None:
        kit, place = driver.backend._kit, driver._dialler.place
        super().__init__(kit, driver._broker)
        self.url = kit.url
        self.main = Link(kit, place, lambda one: one.main)
        self.pubsub = Link(kit, place, lambda one: one.pubsub)


def make_driver(url: str, **options: Any) -> RedisDriver:
    """What makes a backend that is not open."""
    config = BackendConfig(BrokerURL.parse(url).with_options(**options), lambda _key, create: create())
    driver = RedisDriver(config, config.options_as(RedisOptions))
    driver.context = OpenContext(driver)
    return driver


@asynccontextmanager
async def driven(url: str, **options: Any) -> AsyncIterator[RedisDriver]:
    """One whose backend is open."""
    driver = make_driver(url, **options)
    await driver.backend.open()
    try:
        yield driver
    finally:
        driver.context.kit._supervisor.gate.closed = False  # whoever has shut it did not close it
        await driver.backend.aclose()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Context]:
    """What the ports of an open backend share."""
    async with driven(url, **options) as driver:
        yield driver.context


def shut(context: Context) -> None:
    """Let the backend be as if it were closed."""
    context.kit._supervisor.gate.closed = True


async def bury(
    context: Context,
    element: bytes,
    *,
    queue: str = "q",
    step: int = 3,
    reason: str = "rejected",
    detail: str = "by a test",
    deliveries: int = 2,
    died: float | None = None,
) -> str:
    """Keep an element as a dead letter, as the driver kit does; return the letter's id."""
    mark, message = stamp(), read(element)
    about = json.dumps([reason, detail, deliveries, time.time() if died is None else died]).encode()
    facts = facts_read(message, queue, context.levels.priority(step))
    table = context.kit.connection.table
    assert table is not None
    assert await table.create([Row(f"d/{mark}", about + b"\n" + pack(facts, message))]) == [None]
    return mark


async def eventually(look: Callable[[], Awaitable[Any]] | Callable[[], Any], what: str, *, within: float = 30.0) -> Any:
    """Return what ``look`` finds as soon as that is true; fail after a bound."""
    end = asyncio.get_running_loop().time() + within
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert asyncio.get_running_loop().time() < end, f"not within {within} s: {what}"
        await asyncio.sleep(0.01)
