"""What the tests of the connection share."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

from tranship.settings import BrokerURL
from tranship.testing.pytest_plugin import own_services
from tranship.testing.services import ProcessService, redis_recipe
from tranship_redis._connect import Dialler
from tranship_redis._link import Link
from tranship_redis._options import RedisOptions
from tranship_redis._wire import Wire


def make_link(url: str, *, pubsub: bool = False, **options: Any) -> Link:
    """A link that is not open."""
    broker = BrokerURL.parse(url).with_options(**options)
    read = broker.options_as(RedisOptions)
    return Link(Dialler(broker, read), read, pubsub=pubsub)


@contextlib.asynccontextmanager
async def linked(url: str, *, pubsub: bool = False, **options: Any) -> AsyncIterator[Link]:
    """An open link, and no task left after it."""
    before = asyncio.all_tasks()
    link = make_link(url, pubsub=pubsub, **options)
    await link.open()
    try:
        yield link
    finally:
        await link.aclose()
    assert asyncio.all_tasks() <= before


@contextlib.contextmanager
def server(*arguments: str, **options: Any) -> Iterator[ProcessService]:
    """A Redis of one's own; the test is skipped where there is none, or none of this kind."""
    with own_services() as start:
        yield cast(ProcessService, start(redis_recipe(*arguments, **options)))


def wire_of(link: Link) -> Wire:
    """The connection a link has now."""
    wire = link._wire
    assert wire is not None
    return wire


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition, with a bound."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.005)


class Answers:
    """Callbacks that remember what they were called with."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def __call__(self, reply: Any) -> None:
        self.got.append(reply)

    async def count(self, number: int, seconds: float = 30.0) -> list[Any]:
        """Wait for so many."""
        await until(lambda: len(self.got) >= number, seconds)
        return self.got
