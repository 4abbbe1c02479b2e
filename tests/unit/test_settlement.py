"""What only the settler knows: batches, order of storing and settling, and who hears of a failure."""

from __future__ import annotations

import asyncio

import pytest

from tranship.envelope import Envelope, TaskResult, TaskState, new_id
from tranship.errors import BrokerRefused, BrokerUnreachable, StorageFull, TranshipError
from tranship.ports import Settled, Settlement, StoredResult, Verdict
from tranship.protocol import Encoder, encode_result
from tranship.settlement import Settling
from tranship.testing.faults import Faults
from tranship.testing.harness import Harness

encoder = Encoder()


def result(task_id) -> StoredResult:
    document = encode_result(TaskResult(id=task_id, state=TaskState.SUCCESS, value=1))
    return StoredResult(id=task_id, state=TaskState.SUCCESS, document=document)


class Bench:
    """Deliveries of a memory broker, and a settler with faults."""

    def __init__(self, count, *, fused=True, patience=1.0) -> None:
        self.faults = Faults()
        self.backend = self.faults.wrap(Harness("memory://").make_backend("memory://"))
        self.answers: list[object] = []
        self._count = count
        self._fused = fused
        self._patience = patience

    async def __aenter__(self):
        await self.backend.open()
        self.ids = [new_id() for _ in range(self._count)]
        await self.backend.submitter().submit(
            [encoder.encode(Envelope(id=one, task="unit.task", queue="q")) for one in self.ids]
        )
        self.consumer = self.backend.consumer(["q"])
        self.deliveries = list((await self.consumer.receive(self._count, 0)).deliveries)
        self.settling = Settling(self.backend.results(), fused=self._fused, patience=self._patience)
        return self

    async def __aexit__(self, *_):
        await self.backend.aclose()

    def post(self, index, consumer=None) -> None:
        settlement = Settlement(self.deliveries[index], Verdict.ACK, result=result(self.ids[index]))
        self.settling.post(consumer or self.consumer, settlement, self.answers.append)

    async def stored(self) -> int:
        return sum(one.state.terminal for one in await self.backend.results().get_many(self.ids))

    async def held(self) -> int:
        return sum(queue.in_flight or 0 for queue in await self.backend.inspector().queues())


async def test_what_ends_in_one_tick_is_settled_together():
    async with Bench(50) as bench:
        for index in range(50):
            bench.post(index)
        await bench.settling.drain()
        assert bench.answers == [Settled.CONFIRMED] * 50
        assert bench.faults.calls["settle"] == 1
        assert (await bench.stored(), await bench.held()) == (50, 0)


async def test_one_round_trip_at_a_time():
    async with Bench(10) as bench:
        bench.faults.stall("settle")
        bench.post(0)
        await asyncio.sleep(0)
        for index in range(1, 10):
            bench.post(index)
            await asyncio.sleep(0)
        assert bench.faults.calls["settle"] == 1
        bench.faults.release("settle")
        await bench.settling.drain()
        assert bench.faults.calls["settle"] == 2
        assert bench.answers == [Settled.CONFIRMED] * 10


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "apart"])
async def test_an_outage_is_waited_out(fused):
    async with Bench(3, fused=fused) as bench:
        bench.faults.fail("settle", BrokerUnreachable, times=2)
        for index in range(3):
            bench.post(index)
        await bench.settling.drain()
        assert bench.answers == [Settled.CONFIRMED] * 3
        assert await bench.stored() == 3


async def test_the_result_is_stored_before_the_message_goes():
    async with Bench(1, fused=False, patience=0.2) as bench:
        bench.faults.fail("put", BrokerUnreachable, times=-1)
        bench.post(0)
        await bench.settling.drain()
        assert [type(answer) for answer in bench.answers] == [BrokerUnreachable]
        assert bench.faults.calls["settle"] == 0, "acknowledged although the result was not stored"
        assert await bench.held() == 1


async def test_a_stored_result_is_not_stored_again_when_settling_fails():
    async with Bench(1, fused=False) as bench:
        bench.faults.fail("settle", BrokerUnreachable, times=2)
        bench.post(0)
        await bench.settling.drain()
        assert bench.faults.calls["put"] == 1
        assert bench.answers == [Settled.CONFIRMED]


async def test_a_refusal_of_a_batch_is_sorted_out_one_by_one():
    async with Bench(5) as bench:
        bench.faults.fail("settle", BrokerRefused, times=2)  # the batch, and the first of it
        for index in range(5):
            bench.post(index)
        await bench.settling.drain()
        assert [type(answer) for answer in bench.answers] == [BrokerRefused, *[Settled] * 4]
        assert (await bench.stored(), await bench.held()) == (4, 1)


async def test_patience_has_an_end():
    async with Bench(2, patience=0.2) as bench:
        bench.faults.fail("settle", StorageFull, times=-1)
        for index in range(2):
            bench.post(index)
        await asyncio.wait_for(bench.settling.drain(), 2)
        assert [type(answer) for answer in bench.answers] == [StorageFull] * 2


async def test_a_late_settlement_is_told_lost():
    async with Bench(1) as bench:
        await bench.consumer.release(bench.deliveries)
        bench.post(0)
        await bench.settling.drain()
        assert bench.answers == [Settled.LOST]
        assert await bench.stored() == 0


async def test_each_delivery_is_settled_where_it_came_from():
    async with Bench(3) as bench:
        other = bench.backend.consumer(["q"])
        bench.post(0)
        bench.post(1, other)
        bench.post(2)
        await bench.settling.drain()
        assert bench.faults.calls["settle"] == 3
        assert len(bench.answers) == 3


async def test_a_bug_in_a_driver_is_told_and_the_next_batch_goes_on(caplog):
    async with Bench(2) as bench:

        async def settle(_settlements):
            raise ZeroDivisionError

        bench.consumer.settle = settle
        bench.post(0)
        await bench.settling.drain()
        del bench.consumer.settle
        bench.post(1)
        await bench.settling.drain()
        assert [isinstance(answer, TranshipError) for answer in bench.answers] == [True, False]
        assert "ZeroDivisionError" in str(bench.answers[0])
