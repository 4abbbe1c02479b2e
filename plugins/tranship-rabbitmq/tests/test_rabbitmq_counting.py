"""Deliveries that the server does not count, and servers that forget: who is counted, and what is there twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from rabbitmq_kit import WITHIN, control_of, until

from tranship.envelope import Receipt
from tranship.errors import BrokerUnreachable
from tranship.ports import Verdict
from tranship.testing.context import CaseContext, ids_of, task_id
from tranship.testing.services import Service

pytestmark = pytest.mark.timeout(120)


async def restart(service: Service) -> None:
    """Kill it, and start it again."""
    await asyncio.to_thread(service.kill)
    await asyncio.to_thread(service.start)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_who_is_held_beside_a_killer_does_not_die_with_it(lab: CaseContext, queue_type: str) -> None:
    """Two that were delivered often: each travels alone, and only who travelled is counted."""
    backend = await lab.open(queue_type=queue_type)
    await lab.submit(backend, *lab.messages(2))

    async def killed(at_once: int) -> list[tuple[str, int]]:
        doomed = await lab.open(queue_type=queue_type)
        consumer, taken = doomed.consumer(["q"]), list[Any]()
        end = time.monotonic() + lab.patience
        while len(taken) < at_once:
            assert time.monotonic() < end, f"{len(taken)} of {at_once} came"
            taken += (await consumer.receive(5, 1.0)).deliveries
        await doomed.aclose()
        return [(task_id(one), one.delivery_count) for one in taken]

    for count in (1, 2):
        assert {deliveries for _, deliveries in await killed(2)} == {count}
    alone = [await killed(1) for _ in range(3)]
    assert [len(taken) for taken in alone] == [1, 1, 1]
    handed_out = Counter(taken[0][0] for taken in alone)
    consumer = (await lab.open(queue_type=queue_type)).consumer(["q"])
    for _ in range(2):
        (last,) = (await consumer.receive(5, lab.patience)).deliveries
        assert last.delivery_count == 3 + handed_out[task_id(last)], "it was counted without having been handed out"
        await lab.settle(consumer, Verdict.ACK, last)


async def test_what_is_held_and_given_back_is_not_counted(lab: CaseContext) -> None:
    """A worker that fetched too much, because something more urgent came, gives it back as it was."""
    backend, other = await lab.open(), await lab.open()
    (low,) = await lab.submit(backend, lab.message(priority=_low()))
    consumer = backend.consumer(["q"])
    held = await lab.receive(consumer)
    assert ids_of(held) == [low]
    await lab.settle(consumer, Verdict.ACK, *held)
    # The level low is known to have some: it is asked together with those above it.
    many = await lab.submit(other, *lab.messages(6, priority=_low()))
    await lab.submit(other, *lab.messages(3))
    first = await lab.receive(consumer, 4)
    await lab.settle(consumer, Verdict.ACK, *first)
    taker = other.consumer(["q"])
    rest = await lab.receive(taker, len(many) + 3 - len(first), within=10.0)
    assert {one.delivery_count for one in rest} == {1}


def _low() -> Any:
    from tranship.envelope import Priority

    return Priority.LOW


@pytest.mark.campaign
async def test_a_server_killed_twice_has_at_most_one_task_of_each_worker_twice(
    rabbitmq_service: Service, lab: CaseContext
) -> None:
    """After the first kill everything is copied, to be counted; after the second the copies are there, and one original."""
    control = control_of(rabbitmq_service)
    backend = await lab.open()
    ids = await lab.submit(backend, *lab.messages(200))
    consumer = backend.consumer(["q"])
    await restart(rabbitmq_service)

    async def copied() -> bool:
        return bool((await consumer.receive(20, 5.0)).deliveries)

    await until(copied, BrokerUnreachable)
    await restart(rabbitmq_service)

    await backend.aclose()
    told = control("list_queues", "name", "messages", "--no-table-headers").splitlines()
    (left,) = (int(line.split("\t")[1]) for line in told if line.startswith(f"{lab.namespace}:q\t"))
    assert len(ids) <= left <= len(ids) + 1


@pytest.mark.campaign
async def test_a_consumer_waits_through_an_outage(rabbitmq_service: Service, lab: CaseContext) -> None:
    """It is not told of one that is shorter than its patience, and does not ask again long after it."""
    control_of(rabbitmq_service)
    backend, other = await lab.open(), await lab.open()
    consumer = backend.consumer(["q"])
    await lab.quiet(consumer, 0.1)
    await asyncio.to_thread(rabbitmq_service.kill)

    async def noticed() -> bool:
        try:
            await consumer.receive(1, 0)
        except BrokerUnreachable:
            return True
        return False

    await until(noticed)
    waiting = lab.start(consumer.receive(1, 2 * WITHIN))
    await asyncio.to_thread(rabbitmq_service.start)

    async def submitted() -> list[str]:
        message = lab.message()
        (answer,) = await other.submitter().submit([message])
        return [message.envelope.id] if isinstance(answer, Receipt) else []

    ids = await until(submitted)
    assert ids_of((await waiting).deliveries) == ids
