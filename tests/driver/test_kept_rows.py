"""What the kit keeps as rows: for how long, and what becomes of one that nobody can read."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from driver.crashes import World, message
from driver.rows_driver import Broker, Queue, Table, write
from driver.virtual_time import on_virtual_time
from driver.wire import Wire
from tranship.driver import Row, facts_of, pack
from tranship.driver._signals import tombstone_of
from tranship.errors import BrokerUnreachable
from tranship.ports import Heartbeat, NameHolder, Settlement, Tombstone, Verdict


def beat(worker: str) -> Heartbeat:
    return Heartbeat(worker=worker, host="here", pid=1, queues=["q"], running=[], limit=1, at=time.time())


async def test_a_worker_that_is_not_heard_of_for_a_minute_is_gone() -> None:
    async with World() as world:
        backend = await world.open()
        await backend.control().beat(beat("w"))
        world.later(59)
        assert [one.worker for one in await backend.inspector().workers()] == ["w"]
        world.later(2)
        assert not list(await backend.inspector().workers())


async def test_of_two_cancels_the_longer_one_stays() -> None:
    async with World() as world:
        backend, now = await world.open(), time.time()
        for seconds in (600, 60):
            await backend.control().cancel([Tombstone(kind="key", value="k", expires=now + seconds)])
        world.later(300)
        signals = []
        await backend.control().listen(signals.extend, worker="w")
        assert [(one.value, one.expires) for one in signals] == [("k", now + 600)]


async def test_a_cancel_that_is_over_is_not_kept() -> None:
    async with World() as world:
        backend = await world.open()
        await backend.control().cancel([Tombstone(kind="key", value="k", expires=time.time() - 1)])
        assert not [key for key in world.broker.live() if key.startswith("z/")]


async def test_a_row_that_nobody_can_read_hides_no_other(caplog) -> None:
    async with World() as world:
        backend, one = await world.open(), message(not_before=time.time() + 600)
        await backend.submitter().submit([one, message(id="dead")])
        consumer = backend.consumer(["q"])
        (held,) = (await consumer.receive(1, 5.0)).deliveries
        await consumer.settle([Settlement(held, Verdict.REJECT, reason="tired")])
        garbage = {"w/0/zero": b"x", "w/soon/x": b"0\nx", "d/0": b"[]\nx", "d/1": b"x", "z/key/k": b"x", "b/w": b"[]"}
        # One of each sort: not what it should be, and nested deeper than Python goes.
        garbage |= {"d/2": b"7\nx", "d/3": b"[" * 100_000 + b"\nx", "d/4": b"7\n" + pack(facts_of(one), one.raw())}
        for key, value in garbage.items():
            write(world.broker, Row(key, value))
        assert [letter.task_id for letter in await backend.inspector().dead()] == ["dead"]
        assert not list(await backend.inspector().workers())
        await backend.control().listen(lambda _signals: None, worker="w")
        world.later()
        await backend._delays._forward_due()
        assert world.broker.ids() == [one.envelope.id]
    assert "is no delayed message" in caplog.text
    assert "is no dead letter" in caplog.text


async def test_a_message_that_nobody_can_read_is_delivered_with_its_problem() -> None:
    class Garbled(Queue):
        def _claim(self, entry):
            taken = super()._claim(entry)
            taken.data = b"garbage"
            return taken

    async with World(queues=Garbled) as world:
        backend = await world.open()
        await backend.submitter().submit([message()])
        consumer = backend.consumer(["q"])
        (held,) = (await consumer.receive(1, 5.0)).deliveries
        assert (
            held.message.problem == "7 bytes are no message of the driver kit: unpack_from requires a buffer of at "
            "least 8 bytes for unpacking 8 bytes at offset 0 (actual buffer size is 7)"
        )
        await consumer.settle([Settlement(held, Verdict.REJECT, reason="malformed", detail=held.message.problem)])
        (letter,) = await backend.inspector().dead("q")
        assert (letter.task_id, letter.reason, letter.body) == (None, "malformed", b"garbage")


@on_virtual_time
async def test_an_idle_consumer_of_a_queue_that_tells_does_not_look() -> None:
    looks = 0

    class Counted(Queue):
        async def take(self, slots, limit, wait):
            nonlocal looks
            looks += 1
            return await super().take(slots, limit, wait)

    backend = Broker(queues=Counted).backend()
    await backend.open()
    assert not (await backend.consumer(["q"]).receive(1, 60.0)).deliveries
    assert looks <= 2
    await backend.aclose()


@pytest.mark.parametrize("command", [0.2, 60.0], ids=["given-up", "not-yet"])
async def test_silence_is_not_told_as_empty(command: float) -> None:
    wire = Wire(Broker())
    backend = wire.backend(command=command, keepalive=60.0)
    await backend.open()
    consumer = backend.consumer(["q"])
    wire.silent = True
    try:
        received = await asyncio.wait_for(consumer.receive(1, 0.1), 5.0)
        assert not received.confirmed
    except BrokerUnreachable:
        assert command < 1.0
    wire.silent = False
    wire.cut()
    await backend.aclose()


@pytest.mark.parametrize("expires", [10**400, float("inf"), float("nan"), "soon", None])
def test_a_tombstone_with_an_odd_end_is_none(expires: object) -> None:
    assert tombstone_of(json.dumps(["id", "x", expires, True]).encode()) is None


@pytest.mark.parametrize("posts", [False, True], ids=["send", "post"])
async def test_an_id_is_sent_once_where_the_queue_fuses_and_keeps_no_ids(posts: bool) -> None:
    async with World(fuses=True, unique=False, posts=posts) as world:
        submitter = (await world.open()).submitter()
        first, again = message(check_id=True, dedup_key="k"), message(check_id=True)
        for _ in range(2):
            (receipt,) = await submitter.submit([first])
            (other,) = await submitter.submit([again])
        assert (receipt.duplicate_of, other.duplicate_of) == (first.envelope.id, again.envelope.id)
        assert len(world.broker.entries) == 2


class ReadTable(Table):
    """Counts how often it is read."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.reads = 0

    async def get(self, keys):
        self.reads += 1
        return await super().get(keys)


async def test_who_keeps_a_name_reads_it_only_when_somebody_else_may_have_it() -> None:
    broker, one, other = (
        Broker(tables=ReadTable),
        NameHolder(name="w", instance="1"),
        NameHolder(name="w", instance="2"),
    )
    backend = broker.backend()
    await backend.open()
    table, control = backend._supervisor.current.table, backend.control()
    for _ in range(2):
        assert await control.take_name(one, 15.0) is None
    reads = table.reads
    for _ in range(5):
        assert await control.take_name(one, 15.0) is None
    assert table.reads == reads
    # Its time is over, and another one takes it meanwhile.
    broker.ahead = 20.0
    rival = broker.backend()
    await rival.open()
    assert await rival.control().take_name(other, 15.0) is None
    assert (await control.take_name(one, 15.0)).instance == "2"
    await rival.control().free_name(other)
    assert await control.take_name(one, 15.0) is None
    await control.free_name(one)
    assert await control.take_name(other, 15.0) is None
    for backend_ in (backend, rival):
        await backend_.aclose()
