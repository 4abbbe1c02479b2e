"""Tasks of a level reach whoever reads the queue, be it workers of ours or of Celery's, which know of no levels."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from rabbitmq_kit import WITHIN, raw, until

from tranship.envelope import Priority, Receipt
from tranship.testing.context import CaseContext, ids_of
from tranship_rabbitmq import _routes
from tranship_rabbitmq.amqp.channel import Arrived
from tranship_rabbitmq.amqp.content import properties_of
from tranship_rabbitmq.amqp.ends import ChannelEnded

LEVELS = [Priority.HIGH, Priority.LOW, Priority.VERY_LOW]


@asynccontextmanager
async def celery_reads(lab: CaseContext, *, exchange: bool = True, **arguments: Any) -> AsyncIterator[list[int]]:
    """Read the queue as a Celery worker does: its queue, an exchange of the same name, a standing consumer."""
    name, got = f"{lab.namespace}:q", []
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    async with raw(lab) as channel:
        await channel.call("queue.declare", 0, name, False, True, False, False, False, named)
        if exchange:
            await channel.call("exchange.declare", 0, name, "direct", False, True, False, False, False, {})
        channel.consumers["celery"] = lambda arrived: got.append(priority_of(arrived))
        await channel.call("basic.consume", 0, name, "celery", False, True, False, False, {})
        yield got


def priority_of(arrived: Arrived) -> int:
    return properties_of(arrived.header).priority or 0


async def submitted(lab: CaseContext, backend: Any, levels: Sequence[Priority] = LEVELS) -> list[str]:
    ids = await lab.submit(backend, *(lab.message(priority=level) for level in levels))
    assert len(ids) == len(levels)
    return ids


async def has(got: Sequence[int], count: int) -> bool:
    return len(got) == count


async def look(lab: CaseContext, queue: str) -> tuple[int, int] | None:
    """How many messages and consumers a queue on the server has; None: there is none."""
    async with raw(lab) as channel:
        asked = (0, f"{lab.namespace}:{queue}", True, True, False, False, False, {})
        try:
            reply: Any = await channel.call("queue.declare", *asked)
        except ChannelEnded:
            return None
    return reply.arguments[1], reply.arguments[2]


async def count(lab: CaseContext, queue: str) -> int | None:
    there = await look(lab, queue)
    return None if there is None else there[0]


async def is_read(lab: CaseContext, queue: str) -> bool:
    there = await look(lab, queue)
    return there is not None and there[1] > 0


async def is_left(lab: CaseContext, queue: str) -> bool:
    return not await is_read(lab, queue)


async def test_who_reads_the_plain_queue_alone_gets_all_levels_and_it_is_said_once(lab, caplog):
    backend = await lab.open()
    async with celery_reads(lab) as got:
        with caplog.at_level(logging.WARNING, "tranship.rabbitmq"):
            await submitted(lab, backend)
            await submitted(lab, backend)
        await until(lambda: has(got, 6))
    said = [record.getMessage() for record in caplog.records if "no precedence" in record.getMessage()]
    assert len(said) == len(LEVELS)
    assert "q~high'" in said[0]
    assert [await count(lab, f"q~{level.label}") for level in LEVELS] == [None] * 3


async def test_a_queue_with_priorities_gets_the_number(lab):
    backend = await lab.open()
    async with celery_reads(lab, x_max_priority=9) as got:
        await submitted(lab, backend, [Priority.HIGH, Priority.NORMAL, Priority.LOW])
        await until(lambda: has(got, 3))
    assert sorted(got) == [0, 0, 9]


async def test_a_delayed_task_of_a_level_reaches_it_too(lab):
    backend = await lab.open()
    async with celery_reads(lab) as got:
        soon = time.time() + 0.3
        await lab.submit(backend, lab.message(priority=Priority.HIGH, not_before=soon))
        await until(lambda: has(got, 1))


async def test_workers_of_ours_get_levels_whoever_reads_beside_them(lab):
    backend, other = await lab.open(), await lab.open()
    consumer = other.consumer(["q"])
    waiting = lab.start(consumer.receive(1, WITHIN))
    await until(lambda: is_read(lab, "q~very_low"))
    async with celery_reads(lab) as got:
        (sent,) = await submitted(lab, backend, [Priority.LOW])
        (delivery,) = (await waiting).deliveries
        assert (ids_of([delivery]), delivery.priority) == ([sent], Priority.LOW)
    assert not got


async def test_where_nobody_reads_celerys_own_queue_is_known_by_its_exchange(lab):
    backend = await lab.open()
    async with celery_reads(lab):
        pass
    await until(lambda: is_left(lab, "q"))
    await submitted(lab, backend, [Priority.HIGH])
    assert (await count(lab, "q"), await count(lab, "q~high")) == (1, None)


async def test_where_nobody_reads_levels_of_ours_are_used(lab):
    backend = await lab.open()
    await lab.submit(backend, lab.message())
    await submitted(lab, backend, [Priority.HIGH])
    assert (await count(lab, "q"), await count(lab, "q~high")) == (1, 1)


async def test_what_was_seen_is_believed_for_a_while_and_looked_at_again(lab, monkeypatch):
    backend = await lab.open()
    async with celery_reads(lab, exchange=False):
        await submitted(lab, backend, [Priority.HIGH])
    await until(lambda: is_left(lab, "q"))
    await submitted(lab, backend, [Priority.HIGH])
    assert (await count(lab, "q"), await count(lab, "q~high")) == (1, None), "it is believed"
    monkeypatch.setattr(_routes, "BELIEVED", 0.0)
    again = await lab.open()
    (answer,) = await again.submitter().submit([lab.message(priority=Priority.HIGH)])
    assert isinstance(answer, Receipt)
    assert (await count(lab, "q"), await count(lab, "q~high")) == (1, 1), "nobody reads, nor is it Celery's"
