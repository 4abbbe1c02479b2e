"""The stream of the tasks is deleted under load: what is confirmed afterwards runs, and nobody has to be helped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
import uuid
from collections.abc import AsyncIterator

import orjson
import pytest
from nats_kit import connected

from tranship import AsyncClient, Worker, task
from tranship.envelope import Receipt
from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    MessageTooLarge,
    StorageFull,
    TranshipError,
    UnsupportedError,
)
from tranship.ports import Backend, Settled, Settlement, Verdict
from tranship.testing.context import CaseContext, ids_of
from tranship_nats._errors import ApiError, api_error, passing

WORKERS = 4
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
        Worker(lab.url(client_name=f"w{n}"), tasks=[note, meet], max_concurrent_tasks=SLOTS) for n in range(WORKERS)
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
        urls = [lab.url(client_name=f"c{n}") for n in range(CLIENTS)]
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
    """Delete the stream as an operator does."""
    connection = connected(await lab.open())
    answer = await connection.js.call(f"STREAM.DELETE.{connection.broker.names.work}")
    assert answer["success"]


async def until_ran(lab: CaseContext, numbers: list[str]) -> None:
    """Insist that all of them run."""

    async def done() -> bool:
        return ran.ids.issuperset(numbers)

    await lab.eventually(done, "what was confirmed runs", within=RECOVERED)


@pytest.mark.campaign
@pytest.mark.timeout(300)
@pytest.mark.parametrize("turn", range(int(os.environ.get("TRANSHIP_TEST_CHAOS", "3"))))
async def test_a_stream_deleted_under_load(lab: CaseContext, turn: int) -> None:
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


async def test_a_consumer_outlives_its_stream(lab: CaseContext) -> None:
    """It waits while the stream is deleted, says nothing of it, and is served from the new one."""
    backend = await lab.open()
    await backend.ensure(["q"])
    waiting = lab.start(backend.consumer(["q"]).receive(1, 10.0))
    await lab.wait_for(waiting, 0.2)
    await delete(lab)
    ids: list[str] = []

    async def accepted() -> bool:
        with contextlib.suppress(AssertionError):
            ids.extend(await lab.submit(backend, lab.message()))
        return bool(ids)

    await lab.eventually(accepted, "a submit succeeds again")
    (delivery,) = (await waiting).deliveries
    assert orjson.loads(delivery.message.headers)["id"] in ids


@pytest.mark.parametrize("verdict", [Verdict.ACK, Verdict.NACK])
async def test_what_came_from_a_deleted_stream_ends_nothing_in_the_new_one(lab: CaseContext, verdict: Verdict) -> None:
    """The server takes the end of the old number 1 for that of the new one, which somebody else has."""
    backend, other = await lab.open(), await lab.open()
    await lab.submit(backend, lab.message())
    consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
    held = await lab.receive(consumer)
    await delete(lab)
    await lab.eventually(lambda: _accepted(lab, other), "a submit succeeds again")
    (fresh,) = await lab.receive(rival)
    assert await consumer.settle([Settlement(held[0], verdict)]) == [Settled.LOST]
    assert await consumer.extend(held) == [False]
    await lab.quiet(consumer, 0.2)
    await lab.settle(rival, Verdict.NACK, fresh)
    assert ids_of(await lab.receive(rival)) == ids_of([fresh]), "it was removed by another message's end"


async def _accepted(lab: CaseContext, backend: Backend) -> bool:
    (answer,) = await backend.submitter().submit([lab.message()])
    return isinstance(answer, Receipt)


# What the server's numbers mean.


@pytest.mark.parametrize(
    ("status", "number", "text", "kind"),
    [
        (500, 10012, "no such file or directory", BrokerUnreachable),
        (500, 10104, "error creating store for consumer: no such file", BrokerUnreachable),
        (500, 10049, "context deadline exceeded", BrokerUnreachable),
        (503, 10077, "open msgs/1.blk: no such file or directory", BrokerUnreachable),
        (503, 10077, "store is closed", BrokerUnreachable),
        (503, 10077, "maximum messages exceeded", StorageFull),
        (503, 10077, "maximum bytes exceeded", StorageFull),
        (503, 10077, "write msgs/1.blk: no space left on device", StorageFull),
        (500, 10047, "insufficient storage resources available", StorageFull),
        (400, 10054, "message size exceeds maximum allowed", MessageTooLarge),
        (400, 10065, "subjects overlap with an existing stream", BrokerRefused),
        (400, 10100, "filtered consumer not unique on workqueue stream", BrokerRefused),
        (503, 10039, "JetStream not enabled for account", UnsupportedError),
        (404, 10059, "stream not found", BrokerUnreachable),
        (503, 10008, "JetStream system temporarily unavailable", BrokerUnreachable),
        (429, 10167, "too many requests", BrokerUnreachable),
        (400, 19999, "a number of tomorrow", BrokerUnreachable),
        (500, 0, "no number at all", BrokerUnreachable),
    ],
)
def test_what_is_not_known_to_be_permanent_is_tried_again(
    status: int, number: int, text: str, kind: type[TranshipError]
) -> None:
    error = api_error(ApiError(status, number, text), "making a consumer")
    assert type(error) is kind
    assert text in str(error)
    assert error.retryable is (kind is BrokerUnreachable) or kind is StorageFull
    assert passing(error).retryable or kind in (StorageFull, MessageTooLarge)
