"""What only the intake knows: silence, suspects, and consumers that are replaced."""

from __future__ import annotations

import asyncio
from collections import deque

from patience import until

from tranship.client import AsyncClient
from tranship.errors import BrokerUnreachable
from tranship.ports import Received, Settlement, Verdict
from tranship.settings import BrokerURL, Settings
from tranship.task import task
from tranship.testing.faults import Faults, FaultyRegistry
from tranship.testing.harness import Harness
from tranship.worker import Worker, _suspects
from tranship.worker._intake import Intake


class Mute:
    """A consumer that hears nothing, or says what it was told to."""

    made = 0
    lease = None

    def __init__(self, script=()) -> None:
        type(self).made += 1
        self.script = deque(script)
        self.closed = False

    async def receive(self, limit, wait, *, skip=()):
        answer = self.script.popleft() if self.script else Received((), confirmed=False)
        if isinstance(answer, Exception):
            raise answer
        if not answer.confirmed:
            await asyncio.sleep(min(wait, 0.01))
        return answer

    async def aclose(self):
        self.closed = True


def intake(make, *, silence=0.3, take=lambda *_: None):
    return Intake(make, free=lambda: 10, take=take, silence=silence)


class Swallows(Mute):
    """A consumer whose receive swallows the cancel, and returns as if nothing had been."""

    async def receive(self, limit, wait, *, skip=()):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Received(())


async def test_a_consumer_that_swallows_cancels_leaves_none_behind():
    one = intake(Swallows)
    one._skipped = ("other",)
    running = asyncio.ensure_future(one.run())
    for _ in range(3):
        await until(lambda: one._receiver is not None)
        one._interrupt()
        await until(lambda: not one._interrupted)
        assert running.cancelling() == 0
    one.stop()
    await asyncio.wait_for(running, 5.0)


async def test_silence_rebuilds_and_says_so():
    consumers = []

    def make():
        consumers.append(Mute())
        return consumers[-1]

    retired = []
    one = intake(make)
    one.retired = retired.append
    assert one.ready
    running = asyncio.ensure_future(one.run())
    await until(lambda: len(consumers) == 2)
    assert retired == consumers[:1]
    assert not consumers[0].closed, "closing gives back what still runs"
    one.stop()
    await asyncio.wait_for(running, 20)


async def test_an_empty_answer_is_a_word():
    consumer = Mute([Received(())] * 100)
    one = intake(lambda: consumer, silence=0.2)
    running = asyncio.ensure_future(one.run())
    await until(lambda: not consumer.script)
    assert one.ready
    one.stop()
    await asyncio.wait_for(running, 20)


async def test_a_failure_is_not_ready_until_the_next_word():
    consumer = Mute([BrokerUnreachable("gone"), Received(())])
    one = intake(lambda: consumer, silence=30)
    running = asyncio.ensure_future(one.run())
    await until(lambda: one.failed is not None)
    assert not one.ready
    await until(lambda: one.failed is None)
    assert one.ready
    assert one.consumer is consumer, "a failure that was told needs no new consumer"
    one.stop()
    await asyncio.wait_for(running, 20)


async def test_stop_ends_a_receive_that_waits_and_one_that_has_no_room():
    class Endless(Mute):
        async def receive(self, limit, wait, *, skip=()):
            await asyncio.Event().wait()

    for free in (0, 1):
        one = Intake(Endless, free=lambda free=free: free, take=lambda *_: None, silence=30)
        running = asyncio.ensure_future(one.run())
        await asyncio.sleep(0)
        one.stop()
        await asyncio.wait_for(running, 20)


async def test_a_consumer_that_does_not_close_is_left_behind(monkeypatch):
    from tranship.worker import _intake

    class Stuck(Mute):
        async def aclose(self):
            await asyncio.Event().wait()

    monkeypatch.setattr(_intake, "CLOSING", 0.05)
    await asyncio.wait_for(intake(Stuck).aclose(), 2)


async def test_a_suspect_that_does_no_harm_for_a_while_is_one_no_more(monkeypatch):
    monkeypatch.setattr(_suspects, "ALONE", 0.3)
    runs = []
    gate = asyncio.Event()

    @task(name="unit.note", queue="unit")
    async def note(value):
        runs.append(value)
        if value == "suspect":
            await gate.wait()

    harness, settings = Harness("memory://"), Settings(broker_url=BrokerURL.parse("memory://"))
    registry = FaultyRegistry(harness.make_backend, Faults())
    backend = harness.make_backend("memory://")
    await backend.open()
    async with AsyncClient(settings=settings, registry=registry) as client:
        await client.submit(note, "suspect")
        consumer = backend.consumer(["unit"])
        for _ in range(2):
            (delivery,) = (await consumer.receive(1, 1)).deliveries
            await consumer.settle([Settlement(delivery, Verdict.NACK)])
        worker = Worker(settings=settings, tasks=[note], registry=registry)
        serving = asyncio.ensure_future(worker.serve())
        await until(lambda: runs)
        other = await client.submit(note, "other")
        assert runs == ["suspect"]
        await other.result(5)
        assert runs == ["suspect", "other"], "a long task keeps its worker idle for ever"
        gate.set()
        worker.stop()
        await asyncio.wait_for(serving, 5)
    await backend.aclose()


async def test_a_retired_consumer_is_closed_when_what_it_brought_has_ended():
    faults, harness = Faults(), Harness("memory://")
    settings = Settings(broker_url=BrokerURL.parse("memory://"), watchdog=0.5)
    registry = FaultyRegistry(harness.make_backend, faults)
    gate = asyncio.Event()

    @task(name="unit.wait", queue="unit")
    async def wait():
        await gate.wait()

    async with AsyncClient(settings=settings, registry=registry) as client:
        worker = Worker(settings=settings, tasks=[wait], registry=registry)
        serving = asyncio.ensure_future(worker.serve())
        handle = await client.submit(wait)
        await until(lambda: worker.status().running)
        session = worker._session
        old = session.intake.consumer
        faults.stall("receive")
        await until(lambda: session.intake.consumer is not old)
        assert session._flow.retired == [old]
        gate.set()
        await handle.result(5)
        await until(lambda: not session._flow.retired)
        worker.stop()
        await asyncio.wait_for(serving, 5)


async def test_no_pause_is_slept_out_when_the_connection_is_back_or_it_is_told_to_stop(monkeypatch):
    from tranship import pauses

    monkeypatch.setattr(pauses, "FIRST", 60.0)
    consumer = Mute([BrokerUnreachable("gone"), BrokerUnreachable("gone"), Received(()), BrokerUnreachable("gone")])
    one = intake(lambda: consumer, silence=30)
    running = asyncio.ensure_future(one.run())
    for left in (3, 2):
        await until(lambda left=left: len(consumer.script) == left)
        one.hurry()
    await until(lambda: not consumer.script)
    one.stop()
    await asyncio.wait_for(running, 20)


async def test_what_comes_back_while_a_receive_fails_counts(monkeypatch):
    from tranship import pauses

    monkeypatch.setattr(pauses, "FIRST", 60.0)

    class Late(Mute):
        async def receive(self, limit, wait, *, skip=()):
            if self.script:
                one.hurry()
            return await super().receive(limit, wait, skip=skip)

    consumer = Late([BrokerUnreachable("gone"), Received(())])
    one = intake(lambda: consumer, silence=30)
    running = asyncio.ensure_future(one.run())
    await until(lambda: not consumer.script)
    await until(lambda: one.ready)
    one.stop()
    await asyncio.wait_for(running, 20)
