"""What the tests of the connection share."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

from redis_context import opened
from redis_link import Link

from tranship.errors import BrokerRefused, BrokerUnreachable
from tranship.testing.pytest_plugin import own_services
from tranship.testing.services import ProcessService, ask_redis, redis_recipe
from tranship_redis._pack import pack
from tranship_redis._wire import Wire


@contextlib.asynccontextmanager
async def linked(url: str, *, pubsub: bool = False, **options: Any) -> AsyncIterator[Link]:
    """The main socket of an open backend, or the one for subscriptions; no task is left after it."""
    before = asyncio.all_tasks()
    async with opened(url, **options) as context:
        yield context.pubsub if pubsub else context.main
    assert asyncio.all_tasks() <= before


@contextlib.contextmanager
def server(*arguments: str, **options: Any) -> Iterator[ProcessService]:
    """A Redis of one's own; the test is skipped where there is none, or none of this kind."""
    with own_services() as start:
        yield cast(ProcessService, start(redis_recipe(*arguments, **options)))


def clients(service: ProcessService) -> frozenset[bytes]:
    """Ids of those who are connected, without who asks.

    A number would not do: somebody's last connection may still have been counted before, and be gone after it.
    """
    listed = ask_redis(service.place, "CLIENT", "LIST").splitlines()
    return frozenset(line.split()[0] for line in listed if b" cmd=client" not in line)


def wire_of(link: Link) -> Wire:
    """The connection a link has now."""
    return link._channel._wire


async def works(link: Link, seconds: float = 10.0) -> None:
    """Wait until it does: the last fault may not be noticed before the next command."""
    end = time.monotonic() + seconds
    while True:
        await until(lambda: link.up)
        try:
            assert await link.call("ECHO", "back") == b"back"
            return
        except BrokerUnreachable:
            assert time.monotonic() < end, "it does not work again"


async def until_why(link: Link, text: str, kind: type[Exception] = BrokerUnreachable) -> None:
    """Wait until there is no connection for this reason."""
    end = time.monotonic() + 30.0
    while True:
        try:
            link.post(pack("PING"), lambda _: None)
        except (BrokerUnreachable, BrokerRefused) as error:
            if type(error) is kind and text in str(error).lower():
                return
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.005)


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
