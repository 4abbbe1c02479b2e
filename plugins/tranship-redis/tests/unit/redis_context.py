"""A context as the backend makes it, without the backend: for tests of single ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tranship.settings import BrokerURL
from tranship_redis._connect import Dialler
from tranship_redis._context import Context, WorkerGate
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels
from tranship_redis._link import Link
from tranship_redis._options import RedisOptions, database


@asynccontextmanager
async def opened(url: str, *, before: Callable[[Link], object] | None = None, **options: Any) -> AsyncIterator[Context]:
    """Connect to ``url``; ``before`` gets the main link before it is opened."""
    broker, made = BrokerURL.parse(url), RedisOptions(**options)
    main = Link(Dialler(broker, made), made)
    if before is not None:
        before(main)
    links = [main]
    await main.open()
    pubsub = main
    if not main.server.is_resp3:
        pubsub = Link(Dialler(broker, made), made, pubsub=True)
        links.append(pubsub)
        await pubsub.open()
    keys = Keys(made.prefix, database(broker, made))
    context = Context(
        options=made,
        keys=keys,
        levels=Levels(keys, made.normal_step),
        main=main,
        pubsub=pubsub,
        work=_nobody,
        subscriptions=None,
        name="redis",
        url=str(broker),
        gate=WorkerGate(str(broker)),
    )
    try:
        yield context
    finally:
        context.gate.closed = True
        for link in links:
            await link.aclose()


async def _nobody() -> Any:
    raise NotImplementedError


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
