"""Looking into queues on JetStream, and taking tasks out of them, while workers take them, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from nats_kit import connected

from tranship import AsyncClient, TaskState, Worker, task
from tranship.driver import End, Ending
from tranship.envelope import Priority
from tranship.operations import AsyncOperator
from tranship.ports import Settled, Settlement, Verdict
from tranship.testing.context import CaseContext, ids_of

pytestmark = pytest.mark.timeout(60)


async def test_what_a_worker_gives_back_is_not_seen_and_comes_all_the_same(lab: CaseContext) -> None:
    backend = await lab.open()
    first, second = await lab.submit(backend, *lab.messages(2))
    consumer = backend.consumer(["q"])
    (held,) = await lab.receive(consumer)
    assert ids_of([held]) == [first]
    await lab.settle(consumer, Verdict.NACK, held)
    browser = (await lab.open()).inspector()
    assert [one.id for one in await browser.waiting("q")] == [second]  # type: ignore[attr-defined]
    assert list(await browser.purge("q")) == [second]  # type: ignore[attr-defined]
    assert await lab.drain(consumer, 1) == [first]


async def test_what_a_worker_takes_first_is_left_to_it(lab: CaseContext) -> None:
    """Between picking and ending, and between looking and picking."""
    backend, other = await lab.open(lease=60), await lab.open(lease=60)
    ids = await lab.submit(backend, *lab.messages(3))
    queue = connected(other).queue
    seen = await queue.scan("q", "ready", 10)
    assert [one.facts.id for one in seen] == ids
    consumer = backend.consumer(["q"])
    (first,) = await lab.receive(consumer)
    picked = await queue.pick([one.ref for one in seen])
    assert [one.opened()[0].id for one in picked] == ids[1:], "who holds one keeps it"
    (second,) = await lab.receive(consumer)
    answers = await queue.end([Ending(one.token, End.REMOVE) for one in picked])
    assert list(answers) == [Settled.LOST, Settled.CONFIRMED]
    settlements = [Settlement(one, Verdict.ACK) for one in (first, second)]
    assert list(await consumer.settle(settlements)) == [Settled.CONFIRMED] * 2
    await lab.quiet(consumer, 0.3)


@pytest.mark.parametrize("end", [End.RELEASE, End.REQUEUE])
async def test_what_is_picked_and_not_removed_stays_at_its_place(lab: CaseContext, end: End) -> None:
    backend = await lab.open()
    low = await lab.submit(backend, lab.message(priority=Priority.LOW))
    ids = await lab.submit(backend, *lab.messages(2))
    queue = connected(backend).queue
    picked = await queue.pick([one.ref for one in await queue.scan("q", "ready", 10)])
    assert list(await queue.end([Ending(one.token, end) for one in picked])) == [Settled.CONFIRMED] * 3
    assert list(await queue.end([Ending(picked[0].token, End.REMOVE)])) == [Settled.LOST], "it was ended"
    assert await lab.drain(backend.consumer(["q"]), 3) == [*ids, *low]


async def test_a_purge_beside_workers_ends_every_task_once(lab: CaseContext) -> None:
    ran: list[int] = []

    @task(name="backlog.note", queue="q")
    async def note(number: int) -> int:
        ran.append(number)
        await asyncio.sleep(0.01)
        return number

    url = lab.url()
    worker = Worker(url, tasks=[note], max_concurrent_tasks=2)
    async with AsyncClient(url) as client, AsyncOperator(url) as operator:
        handles = await client.submit_many([note.call(number) for number in range(400)])
        serving = asyncio.create_task(worker.serve())
        await lab.eventually(_there(ran), "the worker works")
        purged = set(await operator.purge_queue("q"))
        found = [await handle.wait(lab.patience) for handle in handles]
        worker.stop()
        await serving
        assert await operator.waiting("q") == []
    states = {one.state for one in found}
    assert states == {TaskState.SUCCESS, TaskState.CANCELLED}
    for number, (handle, result) in enumerate(zip(handles, found, strict=True)):
        if handle.id in purged:
            assert result.state is TaskState.CANCELLED
        if result.state is TaskState.SUCCESS:
            assert ran.count(number) == 1


def _there(ran: list[int]) -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return bool(ran)

    return there
