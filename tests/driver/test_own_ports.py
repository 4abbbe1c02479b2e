"""A driver may serve ports, or single verbs of them, itself; the kit supplies the rest, and uses what the driver has."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from driver.crashes import message, result
from driver.rows_driver import Broker, RowsHarness
from tranship.driver import OwnPorts, instead
from tranship.envelope import Receipt, TaskState
from tranship.errors import PluginError
from tranship.ports import Capability, Settled, Settlement, StoredResult, Tombstone, Verdict
from tranship.testing.harness import Harness
from tranship.testing.suites import (
    ConsumerSuite,
    ControlSuite,
    InspectorSuite,
    LifecycleSuite,
    ResultStoreSuite,
    SubmitterSuite,
)


class Shelf:
    """A store of results in a format of its own, which outlives backends."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[TaskState, bytes, float]] = {}
        self.stores: list[ShelfResults] = []


class ShelfResults:
    """A result store that the driver has itself; the states of tasks without a result are the kit's business."""

    def __init__(self, kit: Any, broker: Broker, shelf: Shelf) -> None:
        self._kit, self._broker, self._shelf = kit, broker, shelf
        self._expected: set[str] = set()
        self._sink: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        shelf.stores.append(self)

    @property
    def waiting(self) -> int:
        return len(self._expected)

    def attach(self, sink):
        self._sink, self._loop = sink, asyncio.get_running_loop()

    def expect(self, ids):
        _ = self._kit.connection
        self._expected.update(ids)

    def unexpect(self, ids):
        self._expected.difference_update(ids)

    async def put(self, results):
        _ = self._kit.connection
        won = []
        for one in results:
            won.append(self._live(one.id) is None)
            if won[-1]:
                until = self._broker.now() + (3600.0 if one.ttl is None else one.ttl)
                self._shelf.kept[one.id] = one.state, one.document, until
                for store in self._shelf.stores:
                    store.tell(one)
        return won

    def tell(self, stored):
        if stored.id in self._expected and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._sink, [stored])

    async def get_many(self, ids):
        _ = self._kit.connection
        found = {one: kept for one in ids if (kept := self._live(one)) is not None}
        states = {one.id: one for one in await self._kit.results.get_many([one for one in ids if one not in found])}
        # Ended between the two looks.
        found |= {one: kept for one in states if (kept := self._live(one)) is not None}
        return [
            StoredResult(id=one, state=found[one][0], document=found[one][1]) if one in found else states[one]
            for one in ids
        ]

    async def forget_many(self, ids):
        _ = self._kit.connection
        for one in ids:
            self._shelf.kept.pop(one, None)

    def _live(self, task_id):
        kept = self._shelf.kept.get(task_id)
        return kept if kept is not None and kept[2] > self._broker.now() else None


def on_a_shelf(**broker: Any) -> dict[str, Any]:
    def own(broker: Broker) -> OwnPorts:
        if not hasattr(broker, "shelf"):
            broker.shelf = Shelf()  # type: ignore[attr-defined]
        return OwnPorts(results=lambda kit: ShelfResults(kit, broker, broker.shelf))  # type: ignore[attr-defined]

    return {"own": own, **broker}


class TestPortsWithAResultStoreOfTheDriver(
    SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite
):
    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(**on_a_shelf())


class TestFusedPortsWithAResultStoreOfTheDriver(SubmitterSuite, ResultStoreSuite, ControlSuite, InspectorSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(**on_a_shelf(fuses=True, waits=True, posts=True, tells=True))


class TestResultsThatNobodyKeeps(ResultStoreSuite, LifecycleSuite):
    """A topic and no table: results come to who submitted."""

    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(table=False)


class TestResultsInReplyQueues(ResultStoreSuite, LifecycleSuite, InspectorSuite):
    """Neither topic nor table, and a reply queue for each who submits."""

    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(table=False, topic=False, answers=True)


@pytest.mark.parametrize("fuses", [False, True], ids=["apart", "fused"])
async def test_the_kit_stores_results_where_the_driver_does(fuses: bool) -> None:
    broker = Broker(**on_a_shelf(fuses=fuses))
    backend = broker.backend()
    await backend.open()
    assert not backend.capabilities.has(Capability.FUSED_SETTLE)
    one, run = message(cancel_key="k"), message(id="run")
    await backend.submitter().submit([one])
    await backend.control().cancel([Tombstone(kind="key", value="k", expires=time.time() + 60)])
    assert broker.shelf.kept[one.envelope.id][0] is TaskState.CANCELLED
    await backend.results().put([result("run", 1)])
    run.check_id = True
    assert await backend.submitter().submit([run]) == [Receipt("run", duplicate_of="run")]
    assert not [key for key in broker.live() if key.startswith("r/")]
    await backend.aclose()


async def test_a_single_verb_is_the_drivers_and_the_rest_is_the_kits() -> None:
    asked: list[str] = []

    def own(broker: Broker) -> OwnPorts:
        def results(kit):
            async def get_many(ids):
                asked.extend(ids)
                return await kit.results.get_many(ids)

            return instead(kit.results, get_many=get_many)

        def consumer(kit, queues):
            made = kit.consumer(queues)

            async def release(deliveries):
                asked.append("release")
                await made.release(deliveries)

            return instead(made, release=release)

        return OwnPorts(results=results, consumer=consumer)

    backend = Broker(own=own, fuses=True).backend()
    await backend.open()
    await backend.submitter().submit([message(id="a")])
    consumer = backend.consumer(["q"])
    (held,) = (await consumer.receive(1, 5.0)).deliveries
    await consumer.release([held])
    (held,) = (await consumer.receive(1, 5.0)).deliveries
    assert await consumer.settle([Settlement(held, Verdict.ACK, result=result("a", 1))]) == [Settled.CONFIRMED]
    assert [one.state for one in await backend.results().get_many(["a"])] == [TaskState.SUCCESS]
    assert asked == ["release", "a"]
    assert "with its own get_many" in repr(backend.results())
    await backend.aclose()


async def test_a_verb_that_a_port_has_not_is_told() -> None:
    with pytest.raises(TypeError, match="DriverResults has no verb 'get_some'; it has announce, attach"):
        Broker(own=lambda _broker: OwnPorts(results=lambda kit: instead(kit.results, get_some=None))).backend()


async def test_a_port_that_nothing_declares_is_told() -> None:
    backend = Broker(**on_a_shelf(table=False, topic=False)).backend()
    with pytest.raises(PluginError, match="rows: it has a result store of its own, and declares neither RESULTS nor"):
        await backend.open()


async def test_delays_go_by_the_brokers_clock() -> None:
    broker = Broker(tells_time=True)
    broker.ahead = 3600.0
    backend = broker.backend()
    await backend.open()
    assert "clock" not in backend.capabilities[Capability.DELAY].properties
    soon, late = message(not_before=time.time() + 600), message(not_before=time.time() + 7200)
    await backend.submitter().submit([soon, late])
    assert broker.ids() == [soon.envelope.id], "due there, whatever time it is here"
    broker.ahead = 7300.0
    await backend.read_clock()
    assert abs(backend.clock.ahead - 7300.0) < 1.0
    await backend._delays._forward_due()
    assert broker.ids() == [soon.envelope.id, late.envelope.id]
    await backend.aclose()


async def test_a_clock_that_says_no_time_is_told() -> None:
    broker = Broker(tells_time=True)
    broker.now = lambda: "noon"  # type: ignore[method-assign]
    backend = broker.backend()
    await backend.open()
    with pytest.raises(PluginError, match=r"rows: now\(\) gave 'noon'; expected seconds since 1970"):
        await backend.read_clock()
    await backend.aclose()


async def test_what_its_canceller_has_told_everybody_is_kept_and_not_told_again() -> None:
    """For drivers beside whose feed another one exists: what comes over that is known to who listens later."""
    broker = Broker()
    backend, other = broker.backend(), broker.backend()
    await backend.open()
    await other.open()
    heard: list[Any] = []
    told = asyncio.Event()

    def hear(signals: Any) -> None:
        heard.extend(signals)
        told.set()

    await other.control().listen(hear, worker="w-1")
    one = message()
    await backend.submitter().submit([one, message()])
    revoked = Tombstone(kind="id", value=one.envelope.id, expires=time.time() + 60, running=False)
    control = backend._kit.control
    await control.keep([revoked])
    assert list(await control.kept()) == [revoked]
    assert (await backend.results().get_many([one.envelope.id]))[0].state is TaskState.CANCELLED
    await backend.control().cancel([Tombstone(kind="key", value="k", expires=time.time() + 60)])
    await asyncio.wait_for(told.wait(), 5)
    assert [signal.value for signal in heard] == ["k"], "it was told again"
    await other.aclose()
    later = broker.backend()
    await later.open()
    replayed: list[Any] = []
    await later.control().listen(replayed.extend, worker="w-2")
    assert revoked in replayed
    await later.aclose()
    await backend.aclose()
