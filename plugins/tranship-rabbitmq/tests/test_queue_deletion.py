"""A quorum queue is deleted under load, and whoever submits makes a new one of its name before anybody is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from rabbitmq_kit import WITHIN, raw

from tranship import AsyncClient, Worker, task
from tranship.errors import BrokerUnreachable, TranshipError
from tranship.testing.context import CaseContext, ids_of
from tranship_rabbitmq.amqp.channel import Channel
from tranship_rabbitmq.amqp.methods import Method

WORKERS = 3
SLOTS = 4
CLIENTS = 3
RECOVERED = 10.0
"""Seconds after which every worker has to be at work by itself again."""
LOAD = 1.5
"""Seconds of submitting before a deletion, and after it."""


class Ran:
    """What the workers of this process have run."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.together = asyncio.Barrier(WORKERS * SLOTS)


ran: Ran


@task(name="deletion.note", queue="q", run_timeout=60)
async def note(number: str) -> None:
    ran.ids.add(number)


@task(name="deletion.meet", queue="q", run_timeout=60)
async def meet() -> None:
    """End when every slot of every worker has one of these."""
    await ran.together.wait()


@contextlib.asynccontextmanager
async def fleet(lab: CaseContext) -> AsyncIterator[None]:
    """Workers on links of their own, as in processes of their own."""
    workers = [
        Worker(lab.url(queue_type="quorum", client_name=f"w{n}"), tasks=[note, meet], max_concurrent_tasks=SLOTS)
        for n in range(WORKERS)
    ]
    async with asyncio.TaskGroup() as serving:
        for worker in workers:
            serving.create_task(worker.serve())
        yield
        for worker in workers:
            worker.stop()


@contextlib.asynccontextmanager
async def clients(lab: CaseContext) -> AsyncIterator[list[AsyncClient]]:
    """Clients on links of their own, as in processes of their own."""
    async with contextlib.AsyncExitStack() as stack:
        urls = [lab.url(queue_type="quorum", client_name=f"c{n}") for n in range(CLIENTS)]
        yield [await stack.enter_async_context(AsyncClient(url)) for url in urls]


async def submit_for(clients: list[AsyncClient], seconds: float) -> list[str]:
    """Submit by fits and starts; return what was confirmed."""
    confirmed: list[str] = []
    end = time.monotonic() + seconds

    async def submit(client: AsyncClient) -> None:
        while time.monotonic() < end:
            number = uuid.uuid4().hex
            with contextlib.suppress(TranshipError):
                await client.submit(note, number)
                confirmed.append(number)
            # Workers that find nothing wait to be woken: what they wait at is what is deleted.
            await asyncio.sleep(random.choice([0, 0.002, 0.01, 0.03]))

    await asyncio.gather(*map(submit, clients))
    return confirmed


async def delete(lab: CaseContext) -> None:
    async with raw(lab) as channel:
        await channel.call("queue.delete", 0, f"{lab.namespace}:q", False, False, False)


async def until_ran(lab: CaseContext, numbers: list[str]) -> None:
    """Insist that all of them run."""

    async def done() -> bool:
        return ran.ids.issuperset(numbers)

    await lab.eventually(done, "what was confirmed runs", within=RECOVERED)


@pytest.mark.campaign
@pytest.mark.timeout(300)
@pytest.mark.parametrize("turn", range(int(os.environ.get("TRANSHIP_TEST_CHAOS", "3"))))
async def test_a_quorum_queue_deleted_under_load(lab: CaseContext, turn: int) -> None:
    """What is confirmed after the deletion runs, and every worker takes its part ten seconds later."""
    global ran  # noqa: PLW0603 - handlers are functions of this module
    ran = Ran()
    async with fleet(lab), clients(lab) as submitters:
        await until_ran(lab, await submit_for(submitters, LOAD))
        before = asyncio.create_task(submit_for(submitters, LOAD))
        await asyncio.sleep(LOAD * random.random())
        await delete(lab)
        await until_ran(lab, await submit_for(submitters, LOAD))
        await before
        handles = [await submitters[0].submit(meet) for _ in range(WORKERS * SLOTS)]
        await asyncio.gather(*(handle.result(RECOVERED) for handle in handles))


async def test_a_waiting_consumer_is_told_of_a_quorum_queue_that_was_made_anew(lab: CaseContext) -> None:
    """RabbitMQ before 4.0 consumes from the new queue in our name, and throws away what comes of it."""
    backend, other = await lab.open(queue_type="quorum"), await lab.open(queue_type="quorum")
    consumer = backend.consumer(["q"])
    await lab.quiet(consumer, 0.1)
    waiting = lab.start(consumer.receive(1, WITHIN))
    async with raw(lab) as channel:
        name = f"{lab.namespace}:q"
        await lab.eventually(lambda: _consumers(channel, name), "it waits to be woken")
        channel.post(lambda _: None, "queue.delete", 0, name, False, False, False)
        await channel.call("queue.declare", 0, name, False, True, False, False, False, {"x-queue-type": "quorum"})
    ids = await lab.submit(other, lab.message())
    with contextlib.suppress(BrokerUnreachable):
        assert ids_of((await waiting).deliveries) == ids
        return
    assert await lab.drain(consumer, 1) == ids


async def _consumers(channel: Channel, name: str) -> int:
    """How many consumers the queue has."""
    reply = await channel.call("queue.declare", 0, name, True, True, False, False, False, {})
    assert isinstance(reply, Method)
    return int(reply.arguments[2])
