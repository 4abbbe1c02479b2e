"""What the tests of consumer, settling and sweeper share."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from redis_kit import Raw, element
from tap import Tap

from tranship.driver import Facts, headers_bytes, unpack
from tranship.envelope import Priority
from tranship.ports import Backend, Consumer, Delivery, Settled, Settlement, Verdict
from tranship.protocol import Message, RawMessage
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship.testing.context import CaseContext, ids_of

STEPS = {Priority.HIGH: b"", Priority.NORMAL: b"\x06\x163", Priority.LOW: b"\x06\x166", Priority.VERY_LOW: b"\x06\x169"}


class Letter(NamedTuple):
    """A dead letter as it is stored."""

    reason: str
    detail: str
    deliveries: int
    facts: Facts
    message: RawMessage

    @property
    def as_it_came(self) -> bytes:
        """Of what is no message: as it came."""
        return self.message.body or headers_bytes(self.message)


class KeySpace:
    """A context with a look at the keys of its namespace."""

    def __init__(self, context: CaseContext, raw: Raw) -> None:
        self.context = context
        self.raw = raw

    def key(self, name: str) -> bytes:
        return f"{self.context.namespace}:{name}".encode()

    def list(self, queue: str = "q", priority: Priority = Priority.NORMAL) -> bytes:
        return self.key(queue) + STEPS[priority]

    def push(
        self, *elements: bytes | str | dict[str, Any], queue: str = "q", priority: Priority = Priority.NORMAL
    ) -> None:
        """Put elements on a list as a producer does."""
        for one in elements:
            self.raw("LPUSH", self.list(queue, priority), json.dumps(one) if isinstance(one, dict) else one)

    def kombu(self, task_id: str, *, tag: Any = None, **message: Any) -> dict[str, Any]:
        """An element such as kombu writes."""
        whole = element(self.context, id=task_id, **message)
        whole["properties"]["delivery_tag"] = str(uuid.uuid4()) if tag is None else tag
        return whole

    def peers(self, queue: str = "q") -> None:
        """Let a Celery worker or client have declared the queue."""
        self.raw("SADD", self.key(f"_kombu.binding.{queue}"), f"{queue}\x06\x16\x06\x16{queue}")

    def unacked(self) -> dict[bytes, bytes]:
        return self.raw.hash(self.key("unacked").decode())

    def index(self) -> list[bytes]:
        return sorted(self.raw("ZRANGE", self.key("unacked_index"), "0", "-1"))

    def tokens(self) -> list[bytes]:
        """Claim tokens, the lease that ends first first."""
        found: list[bytes] = self.raw("ZRANGE", self.key("tranship:leases"), "0", "-1")
        return found

    def elements(self, queue: str = "q", priority: Priority = Priority.NORMAL) -> list[bytes]:
        """A list, the next element to be taken first."""
        found: list[bytes] = self.raw("LRANGE", self.list(queue, priority), "0", "-1")
        return found[::-1]

    def letters(self) -> list[Letter]:
        """The dead letters, the oldest first."""
        found = []
        for name in self.raw("ZRANGE", self.key("tranship:rows:d"), "0", "-1"):
            _, about, data = self.raw("GET", self.key("tranship:row:" + name.decode())).split(b"\n", 2)
            reason, detail, deliveries, _ = json.loads(about)
            facts, message = unpack(data)
            found.append(Letter(reason, detail, deliveries, facts, message))
        return found

    def result(self, task_id: str) -> bytes | None:
        found: bytes | None = self.raw("GET", self.key(f"celery-task-meta-{task_id}"))
        return found

    def nothing_held(self) -> None:
        """Insist that nothing is left of deliveries that have ended."""
        left = {"unacked": self.unacked(), "index": self.index(), "leases": self.tokens()}
        left["deliveries"] = self.raw.hash(self.key("tranship:deliveries").decode())
        assert not any(left.values()), left

    def all_true(self) -> None:
        """Insist that what Celery would look at is complete."""
        held = self.unacked()
        assert self.index() == sorted(held)
        for tag, value in held.items():
            message, exchange, key = json.loads(value)
            assert str(message["properties"]["delivery_tag"]).encode() == tag
            assert isinstance(exchange, str)
            assert isinstance(key, str)


async def settle(consumer: Consumer, verdict: Verdict, *deliveries: Delivery, **more: Any) -> list[Settled]:
    return list(await consumer.settle([Settlement(one, verdict, **more) for one in deliveries]))


async def take(consumer: Consumer, count: int, within: float = 30.0) -> list[Delivery]:
    """Receive until there are so many, or nothing comes."""
    got: list[Delivery] = []
    while len(got) < count:
        found = (await consumer.receive(count - len(got), within)).deliveries
        assert found, f"{len(got)} of {count} came"
        got += found
    return got


def counts(deliveries: Sequence[Delivery]) -> dict[str, int]:
    return {task: one.delivery_count for task, one in zip(ids_of(deliveries), deliveries, strict=True)}


def messages(context: CaseContext, *ids: str, **envelope: Any) -> list[Message]:
    return [context.message(id=one, **envelope) for one in ids]


@asynccontextmanager
async def tapped(context: CaseContext, **options: Any) -> AsyncIterator[tuple[Tap, Backend]]:
    """A backend whose connections go through a tap."""
    options = {"lease": 60, "command_timeout": 5, **options}
    async with Tap(context.url()) as tap:
        target, relay = BrokerURL.parse(context.url()), BrokerURL.parse(tap.url)
        url = str(target.with_options(**options)).replace(f":{target.port}/", f":{relay.port}/")
        backend = Registry().create(url)
        await backend.open()
        try:
            yield tap, backend
        finally:
            await backend.aclose()
