"""Brokers as one, each of which can be made to fail: the real backends in memory or in files, with faults."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tranship.envelope import Envelope, Receipt, new_id
from tranship.ports import Backend, Consumer, Delivery
from tranship.protocol import Encoder, Message
from tranship.registry import Registry
from tranship.routing import RoutedBackend, failover, round_robin
from tranship.settings import BackendConfig, BrokerURL
from tranship.testing.faults import Faults

PATIENCE = 30.0
QUICK = {"breaker_pause": 0.05, "breaker_longest_pause": 0.1, "answer_timeout": 0.3, "unknown_patience": 0.2}


class Brokers:
    """Two or more brokers in memory, by number from 0, and what goes wrong with each."""

    def __init__(self, count: int = 2, *, in_turn: bool = False, **options: object) -> None:
        name = uuid.uuid4().hex
        self.urls = [f"memory://{name}-{number}" for number in range(count)]
        self.faults = [Faults() for _ in self.urls]
        self.registry = Registry(entry_points=False, environ={})
        make = round_robin if in_turn else failover
        self.url = make(*self.urls, **{**QUICK, **options})
        self._opened: list[Backend] = []

    def make(self) -> RoutedBackend:
        """A routed backend of them, not opened."""
        return RoutedBackend(BackendConfig(BrokerURL.parse(self.url), self.shared, self._create))

    def shared(self, key, create):
        return self.registry._shared(key, create)

    def _create(self, url: BrokerURL) -> Backend:
        number = [BrokerURL.parse(one).host for one in self.urls].index(url.host)
        return self.faults[number].wrap(self.registry.create(url))

    async def open(self) -> RoutedBackend:
        backend = self.make()
        self._opened.append(backend)
        await backend.open()
        return backend

    async def at(self, number: int) -> Backend:
        """The broker itself, without a router and without faults."""
        backend = self.registry.create(self.urls[number])
        self._opened.append(backend)
        await backend.open()
        return backend

    async def counts(self, queue: str = "q") -> list[int]:
        """How many messages are ready at each."""
        found = []
        for number in range(len(self.urls)):
            infos = {info.name: info for info in await (await self.at(number)).inspector().queues()}
            found.append(sum(infos[queue].ready.values()) if queue in infos else 0)
        return found

    def cut(self, number: int, *verbs: str) -> None:
        """Let everything fail at one broker, or some verbs."""
        for verb in verbs or ("ping", "submit", "receive", "settle", "extend", "release", "get_many", "put", "cancel"):
            self.faults[number].fail(verb, times=-1)

    def heal(self, number: int) -> None:
        """Let everything work again."""
        for verb in ("open", "ping", "submit", "receive", "settle", "extend", "release", "get_many", "put", "cancel"):
            self.faults[number].clear(verb)

    async def aclose(self) -> None:
        for backend in self._opened:
            await backend.aclose()


@asynccontextmanager
async def brokers(count: int = 2, **options: object) -> AsyncIterator[Brokers]:
    """Brokers that are closed afterwards."""
    found = Brokers(count, **options)
    try:
        yield found
    finally:
        await found.aclose()


def message(**fields: object) -> Message:
    return Encoder().encode(Envelope(**{"id": new_id(), "task": "routed.echo", "queue": "q", **fields}))


def messages(count: int, **fields: object) -> list[Message]:
    return [message(**fields) for _ in range(count)]


async def accepted(backend: Backend, *batch: Message) -> list[str]:
    answers = await backend.submitter().submit(batch)
    assert [type(answer) for answer in answers] == [Receipt] * len(batch), answers
    return [one.envelope.id for one in batch]


async def take(consumer: Consumer, count: int, *, within: float = PATIENCE) -> list[Delivery]:
    """Receive so many, or fail."""
    got: list[Delivery] = []
    end = asyncio.get_running_loop().time() + within
    while len(got) < count:
        assert asyncio.get_running_loop().time() < end, f"{len(got)} of {count} came"
        got += (await consumer.receive(count - len(got), 0.5)).deliveries
    return got


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for ``condition``, with a bound."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < end, what
        await asyncio.sleep(0.01)
