"""What the tests of submitter and results share."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis_context import driven
from redis_link import Link

from tranship.envelope import Envelope, TaskResult, TaskState, new_id
from tranship.ports import StoredResult
from tranship.protocol import Encoder, Message, encode_result
from tranship.settings import BrokerURL
from tranship.testing.services import Place
from tranship.testing.services._redis import ask_redis
from tranship_redis._backend import RedisDriver
from tranship_redis._context import Context
from tranship_redis._element import read

ENCODER = Encoder("gen1@host")
NORMAL = b"\x06\x163"
HOUR = 3600.0


@dataclasses.dataclass
class Ports:
    driver: RedisDriver

    @property
    def ctx(self) -> Context:
        return self.driver.context

    @property
    def submitter(self) -> Any:
        return self.driver.backend.submitter()

    @property
    def results(self) -> Any:
        return self.driver.backend.results()

    @property
    def link(self) -> Link:
        return self.ctx.main

    async def call(self, *words: Any) -> Any:
        return await self.link.call(*words)

    async def ids_in(self, key: str | bytes) -> list[str]:
        """The tasks in a list, the next one to be delivered first."""
        elements = await self.call("LRANGE", key, 0, -1)
        return [read(element).properties["correlation_id"] for element in reversed(elements)]


@asynccontextmanager
async def ports(url: str, **options: Any) -> AsyncIterator[Ports]:
    """Submitter and results of an open backend."""
    async with driven(url, **options) as driver:
        yield Ports(driver)


def message(*, check_id: bool = False, **fields: Any) -> Message:
    made = ENCODER.encode(Envelope(**{"id": new_id(), "task": "peers.add", "queue": "q", **fields}))
    made.check_id = check_id
    return made


def messages(count: int, **fields: Any) -> list[Message]:
    return [message(args=(number,), **fields) for number in range(count)]


def ids_of(sent: Sequence[Message]) -> list[str]:
    return [one.envelope.id for one in sent]


def result(task_id: str, value: Any = None, *, ttl: float | None = None, **fields: Any) -> StoredResult:
    state = fields.pop("state", TaskState.SUCCESS)
    document = encode_result(TaskResult(id=task_id, state=state, value=value, **fields))
    return StoredResult(id=task_id, state=state, document=document, ttl=ttl)


def raw(url: str, *words: str | bytes) -> Any:
    """One command on a connection of its own, in this thread."""
    parsed = BrokerURL.parse(url)
    from pathlib import Path

    return ask_redis(Place(port=parsed.port or 6379, directory=Path(), host=parsed.host), *words)
