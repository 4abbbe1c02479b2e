"""What a consumer holds beyond what it was asked for: it is served first, and given back when nobody asks."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from driver.conditions import until
from driver.crashes import message
from driver.rows_driver import Broker, Queue
from driver.virtual_time import on_virtual_time
from tranship.driver import TakenBatch, _consumer
from tranship.envelope import Priority
from tranship.ports import CountKind, Settlement, Verdict


class PushedQueue(Queue):
    """The broker pushes as many messages as were demanded, to whoever was first."""

    def __init__(self, broker: Broker, lease: float | None) -> None:
        super().__init__(broker, lease)
        self.arrived = []
        self.slots, self.credit = [], 0
        self.demanded: list[int] = []

    def demand(self, slots, credit):
        self.slots, self.credit = slots, credit
        self.demanded.append(credit)
        self.push()

    def push(self):
        if self.credit:
            self.arrived += self._take(self.slots, self.credit - len(self.arrived)).items
            self._broker.wake()

    async def send(self, batch):
        answers = await super().send(batch)
        self.push()
        return answers

    async def take(self, slots, limit, wait):
        items, self.arrived = self.arrived, []
        self.push()
        return TakenBatch(items)


@pytest.fixture(autouse=True)
def held_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_consumer, "HELD", 0.1)


async def opened(broker: Broker):
    backend = broker.backend()
    await backend.open()
    return backend


@on_virtual_time
async def test_what_a_broker_pushes_is_served_and_the_rest_given_back() -> None:
    broker = Broker(queues=PushedQueue)
    backend = await opened(broker)
    await backend.submitter().submit([message() for _ in range(9)])
    consumer = backend.consumer(["q"])
    got = (await consumer.receive(3, 5.0)).deliveries
    assert len(got) == 3
    # The broker has pushed three more meanwhile; nobody asks for them.
    assert sum(bool(entry.claim) for entry in broker.entries) == 6
    await until(lambda: sum(bool(entry.claim) for entry in broker.entries) == 3, "they are given back")
    assert backend._supervisor.current.queue.demanded == [3, 0]
    assert [entry.count for entry in broker.entries] == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    await asyncio.sleep(60.0)  # once nobody asks, nothing is demanded or taken any more
    assert backend._supervisor.current.queue.demanded == [3, 0]
    more = (await consumer.receive(9, 5.0)).deliveries
    assert len(more) == 6
    await backend.aclose()
    assert not any(entry.claim for entry in broker.entries)


class GenerousQueue(Queue):
    """Gives more than it was asked for, least urgent first."""

    async def take(self, slots, limit, wait):
        found = await super().take(slots, 100, wait)
        return TakenBatch(list(reversed(found.items)))


async def test_what_is_more_than_asked_for_is_served_by_level() -> None:
    broker = Broker(queues=GenerousQueue)
    backend = await opened(broker)
    levels = [Priority.LOW, Priority.HIGH, Priority.NORMAL, Priority.HIGH]
    await backend.submitter().submit([message(priority=level) for level in levels])
    consumer = backend.consumer(["q"])
    served = []
    for _ in levels:
        (one,) = (await consumer.receive(1, 5.0)).deliveries
        served.append(one.priority)
        await consumer.settle([Settlement(one, Verdict.ACK)])
    assert served == sorted(levels)
    await backend.aclose()


class CountingQueue(Queue):
    """The broker counts whatever it hands out, also what is given back untouched."""

    def __init__(self, broker: Broker, lease: float | None) -> None:
        super().__init__(broker, lease)
        self.traits = replace(self.traits, counts=CountKind.AT_LEAST)
        self.limits: list[int] = []

    async def take(self, slots, limit, wait):
        self.limits.append(limit)
        return await super().take(slots, limit, wait)


async def test_beside_a_suspect_nothing_more_is_taken_than_it() -> None:
    broker = Broker(queues=CountingQueue)
    backend = await opened(broker)
    await backend.submitter().submit([message() for _ in range(4)])
    for entry in broker.entries:
        entry.count = 2
    consumer = backend.consumer(["q"])
    for _ in range(4):
        (suspect,) = (await consumer.receive(10, 5.0)).deliveries
        await consumer.settle([Settlement(suspect, Verdict.ACK)])
    assert backend._supervisor.current.queue.limits == [10, 1, 1, 1]
    await backend.aclose()


async def test_a_look_is_a_new_look_after_a_receive_was_cancelled() -> None:
    broker = Broker(waits=True)
    backend = await opened(broker)
    consumer = backend.consumer(["q"])
    call = asyncio.ensure_future(consumer.receive(1, 0.05))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await until(lambda: consumer._taking is not None and consumer._taking.done(), "its take is over")
    await backend.submitter().submit([message()])
    assert len((await consumer.receive(1, 0.0)).deliveries) == 1
    await backend.aclose()


@on_virtual_time
async def test_only_skipped_queues_are_not_looked_at_all_the_time() -> None:
    looks = 0

    class Counted(Queue):
        async def take(self, slots, limit, wait):
            nonlocal looks
            looks += 1
            return await super().take(slots, limit, wait)

    broker = Broker(waits=True, queues=Counted)
    backend = await opened(broker)
    began = asyncio.get_running_loop().time()
    assert not (await backend.consumer(["q"]).receive(1, 60.0, skip={"q"})).deliveries
    assert asyncio.get_running_loop().time() - began >= 60.0
    assert looks == 0
    await backend.aclose()


class FrankQueue(Queue):
    """Says when it has given all that there was."""

    def __init__(self, broker: Broker, lease: float | None) -> None:
        super().__init__(broker, lease)
        self.looks = 0

    async def take(self, slots, limit, wait):
        self.looks += 1
        found = await super().take(slots, limit, wait)
        return TakenBatch(found.items, emptied=True, next_due=60.0) if len(found.items) < limit else found


@on_virtual_time
async def test_what_is_due_sooner_than_was_known_is_looked_for_in_time() -> None:
    class Delays(FrankQueue):
        async def take(self, slots, limit, wait):
            found = await super().take(slots, limit, wait)
            return found if found.items else TakenBatch((), next_due=1.0)

    broker = Broker(queues=Delays)
    backend = await opened(broker)
    queue, consumer = backend._supervisor.current.queue, backend.consumer(["q"])
    await backend.submitter().submit([message()])
    assert len((await consumer.receive(2, 5.0)).deliveries) == 1
    waiting = asyncio.create_task(consumer.receive(2, 50.0))
    await asyncio.sleep(0.1)
    assert queue.looks == 1
    # As when what was taken is put back with a delay: the look after that knows when it is due.
    consumer._heard()
    await asyncio.sleep(0.1)
    assert queue.looks == 2
    await asyncio.sleep(1.5)
    assert queue.looks > 2
    waiting.cancel()
    await backend.aclose()


@on_virtual_time
async def test_what_is_known_to_be_empty_is_not_looked_at_until_there_is_news() -> None:
    broker = Broker(queues=FrankQueue)
    backend = await opened(broker)
    queue, consumer = backend._supervisor.current.queue, backend.consumer(["q", "other"])
    await backend.submitter().submit([message()])
    assert len((await consumer.receive(2, 5.0)).deliveries) == 1
    waiting = asyncio.create_task(consumer.receive(2, 50.0))
    await asyncio.sleep(40.0)
    assert queue.looks == 1
    await backend.submitter().submit([message()])
    assert len((await waiting).deliveries) == 1
    assert queue.looks == 2
    # Who does not want to wait wants to know.
    assert not (await consumer.receive(2, 0.0)).deliveries
    assert queue.looks == 3
    # Nothing is heard of what is due by then.
    await backend.submitter().submit([message()])
    assert len((await consumer.receive(2, 5.0)).deliveries) == 1
    waiting = asyncio.create_task(consumer.receive(2, 100.0))
    await asyncio.sleep(70.0)
    assert queue.looks > 4
    waiting.cancel()
    # Known of a part of the queues, it says nothing of the others.
    await backend.submitter().submit([message()])
    assert len((await consumer.receive(2, 5.0, skip={"other"})).deliveries) == 1
    looks = queue.looks
    waiting = asyncio.create_task(consumer.receive(2, 5.0))
    await asyncio.sleep(1.0)
    assert queue.looks > looks
    waiting.cancel()
    await backend.aclose()


class SoonQueue(FrankQueue):
    """Says, too, what it has not given because it is not due."""

    due = 60.0

    async def take(self, slots, limit, wait):
        found = await super().take(slots, limit, wait)
        return found if found.items else TakenBatch((), next_due=self.due)


@on_virtual_time
async def test_what_comes_after_all_was_given_and_is_due_soon_is_taken_when_it_is() -> None:
    broker = Broker(queues=SoonQueue)
    backend = await opened(broker)
    queue, consumer = backend._supervisor.current.queue, backend.consumer(["q"])
    await backend.submitter().submit([message()])
    assert len((await consumer.receive(2, 5.0)).deliveries) == 1
    waiting = asyncio.create_task(consumer.receive(2, 50.0))
    await asyncio.sleep(1.0)
    assert queue.looks == 1
    queue.due = 0.5
    broker.wake()
    await asyncio.sleep(0.4)
    assert queue.looks == 2
    await asyncio.sleep(0.4)
    assert queue.looks == 3
    waiting.cancel()
