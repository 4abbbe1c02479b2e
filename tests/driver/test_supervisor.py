"""The connection supervisor: what is lost is found again, and everybody is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import pytest

from driver.conditions import until
from driver.crashes import message, result
from driver.rows_driver import Broker
from driver.wire import Wire
from tranship.envelope import Receipt
from tranship.errors import BrokerGone, BrokerUnreachable, ClosedError, SubmitUnknown
from tranship.ports import ConnectionEvent, Settled, Settlement, Tombstone, Verdict


class Events(list):
    def __init__(self, backend) -> None:
        backend.on_event(lambda event, generation: self.append((event, generation)))

    async def restored(self, generation: int = 2) -> None:
        await until(lambda: (ConnectionEvent.RESTORED, generation) in self, f"connection {generation}")


@pytest.fixture
def wire() -> Wire:
    return Wire(Broker())


async def test_a_lost_connection_is_replaced_and_told(wire: Wire) -> None:
    backend = wire.backend()
    await backend.open()
    events = Events(backend)
    wire.cut()
    await events.restored()
    assert events == [(ConnectionEvent.LOST, 1), (ConnectionEvent.RESTORED, 2)]
    (answer,) = await backend.submitter().submit([message()])
    assert isinstance(answer, Receipt)
    await backend.aclose()
    assert [one.closed for one in wire.connections] == [True, True]


async def test_while_it_is_lost_a_submit_is_definitely_not_submitted(wire: Wire) -> None:
    backend = wire.backend()
    await backend.open()
    wire.refused = True
    wire.cut()
    await until(lambda: not backend._supervisor.connected, "the loss is noticed")
    (answer,) = await backend.submitter().submit([message()])
    assert isinstance(answer, BrokerUnreachable)
    assert not wire.broker.entries
    await backend.aclose()


async def test_why_there_is_no_connection_is_told(wire: Wire) -> None:
    backend = wire.backend()
    await backend.open()
    wire.refused = True
    wire.cut()

    async def told() -> str:
        (answer,) = await backend.submitter().submit([message()])
        return str(answer)

    end = time.monotonic() + 5
    while "nobody listens" not in await told():
        assert time.monotonic() < end, "it does not say why"
    await backend.aclose()


async def test_what_cannot_be_replayed_yet_is_replayed_soon(wire: Wire) -> None:
    """A cluster may have no leader yet when the connection is back: the worker must not stay deaf until the next loss."""
    backend, other = wire.backend(), wire.backend()
    for one in (backend, other):
        await one.open()
    signals: list[Tombstone] = []
    await backend.control().listen(signals.extend, worker="w")
    events = Events(backend)
    wire.unavailable.add("page")
    # What the connection had subscribed goes with it.
    wire.broker.heard._heard.clear()
    wire.connections[0].abort()
    with contextlib.suppress(BrokerUnreachable):
        # It is stored before anything else is looked for.
        await other.control().cancel([Tombstone(kind="key", value="meanwhile", expires=time.time() + 60)])
    await events.restored()
    assert not signals
    wire.unavailable.clear()
    await until(lambda: [one.value for one in signals] == ["meanwhile"], "the cancel is heard")
    for one in (backend, other):
        await one.aclose()


async def test_silence_is_a_lost_connection_and_an_unknown_outcome(wire: Wire) -> None:
    backend = wire.backend()
    await backend.open()
    events = Events(backend)
    wire.silent = True
    one = message()
    (answer,) = await backend.submitter().submit([one])
    assert isinstance(answer, SubmitUnknown)
    assert isinstance(answer.__cause__, ConnectionResetError)
    assert wire.broker.ids() == [one.envelope.id], "it was stored, and only the answer was lost"
    wire.silent = False
    await events.restored()
    await backend.aclose()


async def test_an_idle_connection_that_has_gone_silent_is_noticed(wire: Wire) -> None:
    backend = wire.backend()
    await backend.open()
    events = Events(backend)
    wire.silent = True
    await until(lambda: (ConnectionEvent.LOST, 1) in events, "silence is noticed")
    wire.silent = False
    await events.restored()
    await backend.aclose()


async def test_a_receive_survives_a_lost_connection(wire: Wire) -> None:
    backend, other = wire.backend(), Wire(wire.broker).backend()
    await backend.open()
    await other.open()
    events, consumer = Events(backend), backend.consumer(["q"])
    wire.refused = True
    wire.cut()
    await until(lambda: not backend._supervisor.connected, "the loss is noticed")
    waiting = asyncio.ensure_future(consumer.receive(1, 10.0))
    await other.submitter().submit([message()])
    wire.refused = False
    await events.restored()
    assert len((await waiting).deliveries) == 1
    for one in (backend, other):
        await one.aclose()


async def test_expected_results_and_cancels_are_heard_over_the_next_connection(wire: Wire) -> None:
    backend, worker = wire.backend(), Wire(wire.broker).backend()
    await backend.open()
    await worker.open()
    events, pushed, signals = Events(backend), [], []
    backend.results().attach(pushed.extend)
    backend.results().expect(["a"])
    await backend.control().listen(signals.extend, worker="w")
    # What the connection had subscribed goes with it.
    wire.broker.heard._heard.clear()
    wire.cut()
    await worker.control().cancel([Tombstone(kind="key", value="meanwhile", expires=time.time() + 60)])
    await events.restored()
    await until(lambda: [one.value for one in signals] == ["meanwhile"], "the cancel is heard")
    await worker.results().put([result("a", 1)])
    await until(lambda: [one.id for one in pushed] == ["a"], "the result is pushed")
    for one in (backend, worker):
        await one.aclose()


@pytest.mark.parametrize("survive", [True, False], ids=["survive", "die"])
async def test_tokens_survive_their_connection_or_are_lost_with_it(survive: bool) -> None:
    wire = Wire(Broker(), tokens_survive=survive)
    backend = wire.backend()
    await backend.open()
    events, consumer = Events(backend), backend.consumer(["q"])
    await backend.submitter().submit([message()])
    (held,) = (await consumer.receive(1, 5.0)).deliveries
    wire.cut()
    await events.restored()
    assert await consumer.extend([held]) == [survive]
    said = await consumer.settle([Settlement(held, Verdict.ACK)])
    assert said == [Settled.CONFIRMED if survive else Settled.LOST]
    assert held.generation == 1
    await backend.aclose()


async def test_a_failing_hook_and_a_failing_listener_harm_nobody(wire: Wire, caplog) -> None:
    backend = wire.backend()
    await backend.open()

    async def fails() -> None:
        raise KeyError("a bug")

    def also_fails(*_: object) -> None:
        raise KeyError("a bug")

    backend._supervisor.on_restored.insert(0, fails)
    backend.on_event(also_fails)
    events = Events(backend)
    with caplog.at_level(logging.CRITICAL, "tranship.driver"):
        wire.cut()
        await events.restored()
    await backend.ping()
    await backend.aclose()


async def test_attempts_to_reconnect_grow_apart(wire: Wire, monkeypatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    backend = wire.backend()
    await backend.open()
    wire.refused = True
    monkeypatch.setattr("tranship.driver._supervisor.asyncio.sleep", noted)
    wire.cut()
    await until_quick(lambda: len([one for one in pauses if one]) >= 8, sleep)
    monkeypatch.undo()
    waits = [one for one in pauses if one][:8]
    assert waits[0] <= 0.05 < waits[4] <= 1.0
    assert max(waits) <= 1.0
    assert waits[6] != waits[7], "no jitter"
    await backend.aclose()


async def until_quick(condition, sleep) -> None:
    for _ in range(10_000):
        if condition():
            return
        await sleep(0)
    raise AssertionError("it did not try again")


async def test_opening_says_why_it_cannot(wire: Wire) -> None:
    wire.refused = True
    backend = wire.backend()
    with pytest.raises(BrokerUnreachable, match="nobody listens") as caught:
        await backend.open()
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    with pytest.raises(ClosedError):
        await backend.open()


async def test_opened_twice_or_used_before_is_told(wire: Wire) -> None:
    backend = wire.backend()
    with pytest.raises(ClosedError, match="not open; await open"):
        await backend.ping()
    await backend.open()
    with pytest.raises(ClosedError, match="opened before"):
        await backend.open()
    await backend.aclose()


@pytest.mark.parametrize("noticed", ["by the driver", "by a verb"])
async def test_what_is_lost_for_good_is_not_looked_for_again(wire: Wire, noticed: str) -> None:
    backend = wire.backend()
    await backend.open()
    events, consumer = Events(backend), backend.consumer(["q"])
    waiting = asyncio.ensure_future(consumer.receive(1, 60.0))
    await asyncio.sleep(0)
    gone = BrokerGone("the broker was deleted")
    if noticed == "by the driver":
        wire.connections[0].lost.set_result(gone)
    else:
        wire.raises = gone
        with pytest.raises(BrokerGone):
            await backend.ping()
    async with asyncio.timeout(5.0):
        with pytest.raises(BrokerGone, match="deleted"):
            await waiting
    with pytest.raises(BrokerGone, match="deleted"):
        await backend.submitter().submit([message()])
    await until(lambda: wire.connections[0].closed, "it is closed")
    assert events == [(ConnectionEvent.LOST, 1)]
    assert len(wire.connections) == 1
    await backend.aclose()


async def test_a_connection_that_closes_slowly_is_waited_for(wire: Wire) -> None:
    backend = wire.backend(close=None)
    await backend.open()
    events = Events(backend)
    wire.closing.clear()
    wire.cut()
    await events.restored()
    closing = asyncio.ensure_future(backend.aclose())
    await asyncio.sleep(0.05)
    assert not closing.done()
    wire.closing.set()
    async with asyncio.timeout(5.0):
        await closing
    assert [one.closed for one in wire.connections] == [True, True]


async def test_without_time_limits_a_verb_may_take_its_time(wire: Wire) -> None:
    backend = wire.backend(connect=None, command=None, keepalive=None)
    await backend.open()
    wire.silent = True
    waiting = asyncio.ensure_future(backend.submitter().submit([message()]))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    assert backend._supervisor.connected
    wire.cut()
    (answer,) = await waiting
    assert isinstance(answer, SubmitUnknown)
    await backend.aclose()
