"""What the tests of moving share: brokers of all kinds, messages of all kinds, and what is at a broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from tranship.connections import process_table
from tranship.envelope import Envelope, Priority, Receipt, new_id
from tranship.operations import Move, MoveOptions, MoveReport
from tranship.ports import Backend, EarlyConsumer, Settlement, Verdict
from tranship.protocol import Encoder, Message, decode
from tranship.registry import Registry
from tranship.retry import RetryPolicy
from tranship.settings import Settings

LEASE = 2.0


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Backend]:
    """An open backend that shares embedded state with the rest of the process."""
    backend = Registry().create(url, shared=process_table().shared)
    try:
        await backend.open()
        yield backend
    finally:
        await backend.aclose()


def envelope(number: int = 0, **fields: Any) -> Envelope:
    return Envelope(**{"id": new_id(), "task": "move.echo", "queue": "q", "args": [number], **fields})


def all_kinds() -> list[Envelope]:
    """Envelopes with every field set somewhere; whole seconds, as every broker can write them."""
    now = float(int(time.time()))
    return [
        envelope(1),
        envelope(2, priority=Priority.HIGH, kwargs={"text": "ünï", "nested": {"list": [1, None, 2.5]}}),
        envelope(3, priority=Priority.VERY_LOW, deadline=now + 3600, run_timeout=30.0, cancel_key="job"),
        envelope(4, not_before=now + 3600, attempt=2, retry=RetryPolicy(max_attempts=7)),
        envelope(5, dedup_key="once", dedup_window=600.0, store_result=False, result_ttl=60.0),
        envelope(6, headers={"traceparent": "00-abc", "x-own": {"deep": [1]}}, persistent_output=True),
        envelope(7, reply_to="somebody", group_id="g", parent_id="p", root_id="r", queue="other"),
        envelope(8, content_type="application/x-msgpack", kwargs={"number": 2**40}),
        envelope(9, not_before=now + 7200, priority=Priority.LOW, queue="other"),
    ]


async def put(url: str, *envelopes: Envelope) -> None:
    encoder = Encoder()
    await put_messages(url, [encoder.encode(one) for one in envelopes])


async def put_messages(url: str, messages: Sequence[Message]) -> None:
    async with opened(url) as backend:
        await backend.ensure(sorted({one.envelope.queue for one in messages}))
        answers = await backend.submitter().submit(messages)
        assert all(isinstance(answer, Receipt) and answer.duplicate_of is None for answer in answers), answers


async def bury(url: str, *envelopes: Envelope, reason: str = "tired") -> None:
    """Submit, and make dead letters of them."""
    await put(url, *envelopes)
    async with opened(url) as backend:
        consumer = backend.consumer(sorted({one.queue for one in envelopes}))
        left = len(envelopes)
        while left:
            deliveries = (await consumer.receive(left, 10.0)).deliveries
            assert deliveries
            settlements = [Settlement(one, Verdict.REJECT, reason=reason, detail="why") for one in deliveries]
            await consumer.settle(settlements)
            left -= len(deliveries)
        await consumer.aclose()


async def everything(url: str, queues: Sequence[str]) -> list[Envelope]:
    """Take all there is out of a broker, due or not, and return it."""
    found: list[Envelope] = []
    async with opened(url) as backend:
        consumer = backend.consumer(queues)
        while True:
            deliveries = list((await consumer.receive(500, 0.3)).deliveries)
            if not deliveries and isinstance(consumer, EarlyConsumer):
                deliveries = list((await consumer.receive_early(500)).deliveries)
            if not deliveries:
                return found
            found += [decode(one.message, queue=one.queue, priority=one.priority) for one in deliveries]
            await consumer.settle([Settlement(one, Verdict.ACK) for one in deliveries])


def as_sent(one: Envelope) -> Envelope:
    """The envelope as it is read again."""
    return replace(one, args=list(one.args), headers=dict(one.headers))


def same(found: Sequence[Envelope], sent: Sequence[Envelope]) -> None:
    """Insist that these are the same envelopes, whatever their order."""

    def by_id(envelopes: Sequence[Envelope]) -> list[Envelope]:
        return sorted(map(as_sent, envelopes), key=lambda one: one.id)

    assert by_id(found) == by_id(sent)


def settings(url: str) -> Settings:
    return Settings.load({}, broker_url=url)


def move(source: str, target: str, **options: Any) -> MoveReport:
    """Move in a loop of its own, and insist that it ended well."""
    report = run(source, target, **options)
    assert report.error is None, report.error
    return report


def run(source: str, target: str, **options: Any) -> MoveReport:
    return asyncio.run(Move(settings(source), settings(target), MoveOptions(**options)).run())
