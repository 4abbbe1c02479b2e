"""What the conformance suites cannot know about the memory backend."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from tranship.backends.memory import Clock, MemoryBroker, make_backend
from tranship.driver import DriverBackend
from tranship.envelope import Envelope
from tranship.errors import ClosedError, InvalidOptionError
from tranship.ports import Capability, Settlement, Verdict
from tranship.protocol import Encoder
from tranship.settings import BackendConfig, BrokerURL
from tranship.testing.harness import Harness


def make(harness: Harness, url: str = "memory://") -> DriverBackend:
    return make_backend(BackendConfig(BrokerURL.parse(url), harness.shared))


def message(task_id: str, **fields):
    return Encoder().encode(Envelope(id=task_id, task="m.f", queue="q", **fields))


@pytest.fixture
def harness() -> Harness:
    return Harness("memory://")


class ManualClock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now)


async def opened(harness: Harness, url: str = "memory://") -> DriverBackend:
    backend = make(harness, url)
    await backend.open()
    return backend


async def test_two_names_never_meet(harness):
    one, other = await opened(harness, "memory://one"), await opened(harness, "memory://other")
    await one.submitter().submit([message("a")])
    assert not (await other.consumer(["q"]).receive(1, 0)).deliveries
    assert len((await one.consumer(["q"]).receive(1, 0)).deliveries) == 1
    await one.aclose()
    await other.aclose()


async def test_what_is_queued_stays_when_everybody_has_closed(harness):
    first = await opened(harness)
    await first.submitter().submit([message("a")])
    await first.aclose()
    second = await opened(harness)
    assert len((await second.consumer(["q"]).receive(1, 0)).deliveries) == 1
    await second.aclose()


async def test_time_can_be_moved_by_a_clock_of_ones_own(harness):
    manual = ManualClock()
    broker = harness.shared(("memory", ""), lambda: MemoryBroker(manual.clock()))
    backend = await opened(harness, "memory://?lease=30&result_ttl=60")
    await backend.submitter().submit([message("later", not_before=manual.now + 3600)])
    consumer = backend.consumer(["q"])
    waiting = asyncio.create_task(consumer.receive(1, 10))
    await asyncio.sleep(0)
    manual.now += 3600
    broker.wake()
    assert len((await waiting).deliveries) == 1
    manual.now += 31
    (again,) = (await consumer.receive(1, 0)).deliveries
    assert again.delivery_count == 2
    await backend.aclose()


def test_a_submit_in_one_thread_wakes_a_receive_in_another(harness):
    got, ready = [], threading.Event()

    async def receive() -> None:
        backend = await opened(harness)
        consumer = backend.consumer(["q"])
        asyncio.get_running_loop().call_soon(ready.set)
        got.extend((await consumer.receive(1, 10)).deliveries)
        await backend.aclose()

    async def submit() -> None:
        backend = await opened(harness)
        await backend.submitter().submit([message("a")])
        await backend.aclose()

    thread = threading.Thread(target=asyncio.run, args=(receive(),))
    thread.start()
    assert ready.wait(5)
    started = time.monotonic()
    asyncio.run(submit())
    thread.join(5)
    assert len(got) == 1
    assert time.monotonic() - started < 5


async def test_a_listener_whose_loop_is_gone_harms_nobody(harness):
    abandoned = []

    async def listen() -> None:
        backend = await opened(harness)
        backend.results().attach(lambda _results: None)
        backend.results().expect(["a"])
        await backend.control().listen(lambda _signals: None, worker="gone")
        backend.consumer(["q"])
        abandoned.append(backend)

    await asyncio.to_thread(asyncio.run, listen())
    backend = await opened(harness)
    await backend.submitter().submit([message("a")])
    (delivery,) = (await backend.consumer(["q"]).receive(1, 1)).deliveries
    consumer = backend.consumer(["q"])
    await consumer.settle([Settlement(delivery, Verdict.NACK)])
    await abandoned[0].aclose()
    await backend.aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_told_that_nothing_is_shared(harness):
    async def refused(backend: DriverBackend) -> bool:
        try:
            await backend.submitter().submit([message("a")])
        except ClosedError:
            try:
                await (other := make(harness)).open()
            except ClosedError:
                await backend.aclose()
                await other.aclose()
                return True
        return False

    with asyncio.Runner() as runner:
        backend = runner.run(opened(harness))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                asyncio.events._set_running_loop(None)
                status = 0 if asyncio.new_event_loop().run_until_complete(refused(backend)) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        runner.run(backend.aclose())


@pytest.mark.parametrize("option", ["lease=0", "aging=-1", "lease=soon", "leese=3"])
def test_bad_options_are_refused_when_it_is_made(harness, option):
    with pytest.raises(InvalidOptionError, match=option.partition("=")[0]):
        make(harness, f"memory://?{option}")


async def test_what_it_can_do_is_known_before_it_is_open_and_after_it_is_closed(harness):
    backend = make(harness)
    before = dict(backend.capabilities)
    await backend.open()
    during = dict(backend.capabilities)
    await backend.aclose()
    assert before == during == dict(backend.capabilities)


async def test_what_it_cannot_do_is_said(harness):
    backend = await opened(harness)
    absent = [one for one in Capability if not backend.capabilities.has(one)]
    assert absent == [Capability.DURABLE, Capability.CROSS_PROCESS]
    await backend.aclose()


async def test_many_that_left_the_delayed_lane_leave_no_shells(harness):
    backend = await opened(harness)
    far = time.time() + 3600
    await backend.submitter().submit([message(f"m-{n}", not_before=far, cancel_key="job") for n in range(500)])
    from tranship.ports import Tombstone

    report = await backend.control().cancel([Tombstone(kind="key", value="job", expires=far)])
    assert len(report.removed) == 500
    queue = backend.native.space("").stock._queues["q"]
    assert len(queue) == 0
    assert len(queue._delayed._heap) < 100
    await backend.aclose()
