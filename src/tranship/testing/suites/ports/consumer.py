"""What a consumer promises: wakes, sees everything once, settles what it was told to settle."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Final

from tranship.envelope import TaskState
from tranship.errors import BusyError, InvalidOptionError
from tranship.ports import Backend, Capability, Consumer, Settled, Settlement, Verdict
from tranship.testing.case import case
from tranship.testing.context import CaseContext, headers_of, ids_of
from tranship.testing.suites.ports.crash import CrashCases
from tranship.testing.suites.ports.leases import LeaseCases
from tranship.testing.suites.ports.order import OrderCases
from tranship.testing.suites.ports.wakeups import Wakeups

__all__ = ["ConsumerSuite"]

_WAKE_BOUND = 0.2
"""Twice the contract's 100 ms: test machines are busy."""


MOST_LOOKS: Final = 30
"""In a second, with room for what else has a timer; the driver kit looks 20 times where a broker cannot wake it."""


class _Receiving:
    """Taking messages."""

    @case("receive_empty_returns_empty", level="core", rationale="an idle worker must neither spin, hang nor oversleep")
    async def test_receive_empty_returns_empty(self, context: CaseContext) -> None:
        """Empty means empty, after ``wait`` and not before; a submit wakes at once."""
        backend, producer = await context.open(), await context.open()
        consumer = backend.consumer(["q"])
        for wait in (0.0, 0.4):
            started = time.monotonic()
            assert not (await consumer.receive(5, wait)).deliveries
            assert wait * 0.9 <= time.monotonic() - started < wait + context.patience / 2
        latencies = [await _wake_latency(context, consumer, producer) for _ in range(7)]
        assert statistics.median(latencies) < _WAKE_BOUND, f"woke after {sorted(latencies)} s"

    @case("receive_idle_rests", level="core", rationale="a thousand idle workers that look all the time are a load")
    async def test_receive_idle_rests(self, context: CaseContext) -> None:
        """A receive that waits is woken: it does not look by itself, or no more than 20 times a second."""
        backend = await context.open()
        consumer = backend.consumer(["q"])
        await consumer.receive(1, 0.0)
        with Wakeups.counted(context) as wakeups:
            assert not (await consumer.receive(1, 1.0)).deliveries
        assert wakeups.by_timer <= MOST_LOOKS, f"{wakeups.by_timer} wake-ups in a second in which nothing came"

    @case("receive_one_at_a_time", level="core", rationale="two receivers on one consumer would steal each other's")
    async def test_receive_one_at_a_time(self, context: CaseContext) -> None:
        """A second call raises BusyError; the first goes on."""
        backend = await context.open()
        consumer = backend.consumer(["q"])
        first = context.start(consumer.receive(1, context.patience))
        await asyncio.sleep(0)
        try:
            second = await consumer.receive(1, 0.0)
        except BusyError:
            second = None
        assert second is None, "a second receive() was let in"
        ids = await context.submit(backend, context.message())
        assert ids_of((await first).deliveries) == ids

    @case("receive_competing", level="core", rationale="two workers with one task each do half the work, not twice")
    async def test_receive_competing(self, context: CaseContext) -> None:
        """8 consumers on 4 backends, 400 messages: each exactly once."""
        backends = [await context.open() for _ in range(4)]
        ids = await context.submit(backends[0], *context.messages(400))
        got: list[str] = []
        workers = [_work(context, backend.consumer(["q"]), got, 400) for backend in backends * 2]
        await asyncio.gather(*workers)
        assert len(got) == len(set(got)), f"{len(got) - len(set(got))} messages came twice"
        assert set(got) == set(ids), f"{len(set(ids) - set(got))} messages were lost"

    @case("receive_prefetch_bound", level="core", rationale="what one worker hoards, idle ones wait for")
    async def test_receive_prefetch_bound(self, context: CaseContext) -> None:
        """Never more than asked for; what was not handed out is there for others after aclose."""
        backend = await context.open()
        ids = await context.submit(backend, *context.messages(12))
        greedy = backend.consumer(["q"])
        held = [
            *(await greedy.receive(3, context.patience)).deliveries,
            *(await greedy.receive(1, context.patience)).deliveries,
        ]
        assert 2 <= len(held) <= 4
        await context.settle(greedy, Verdict.ACK, *held)
        await greedy.aclose()
        rest = await context.drain(backend.consumer(["q"]), 12 - len(held))
        assert sorted([*rest, *ids_of(held)]) == sorted(ids)

    @case("receive_two_queues_fair", level="core", rationale="a busy queue must not starve a quiet one")
    async def test_receive_two_queues_fair(self, context: CaseContext) -> None:
        """40 in one queue, 5 in the other: the 5 are through when 20 have been served."""
        backend = await context.open()
        await context.submit(backend, *context.messages(40, queue="busy"))
        quiet = await context.submit(backend, *context.messages(5, queue="quiet"))
        consumer = backend.consumer(["busy", "quiet"])
        first = [one for _ in range(20) for one in await _one(context, consumer)]
        assert set(quiet) <= set(first), "the quiet queue was starved"
        assert len(await context.drain(consumer, 25)) == 25

    @case("receive_skips_queues", level="core", rationale="a task type without a free slot must stay with the broker")
    async def test_receive_skips_queues(self, context: CaseContext) -> None:
        """A skipped queue is left alone this time, and served the next."""
        backend = await context.open()
        skipped = await context.submit(backend, context.message(queue="gpu"))
        served = await context.submit(backend, context.message(queue="cpu"))
        consumer = backend.consumer(["gpu", "cpu"])
        first = await consumer.receive(5, context.patience, skip={"gpu"})
        assert ids_of(first.deliveries) == served
        await context.settle(consumer, Verdict.ACK, *first.deliveries)
        assert not (await consumer.receive(5, 0.2, skip={"gpu"})).deliveries
        assert await context.drain(consumer, 1) == skipped

    @case("consumer_cancelled_cleanly", level="core", rationale="a cancelled receive() must not swallow a message")
    async def test_consumer_cancelled_cleanly(self, context: CaseContext) -> None:
        """Cancelled at every point around a submit: nothing lost, nothing counted."""
        backend = await context.open()
        consumer = backend.consumer(["q"])
        ids: list[str] = []
        got: list[str] = []
        for steps in range(25):
            call = context.start(consumer.receive(5, context.patience))
            await asyncio.sleep(0)
            ids += await context.submit(backend, context.message())
            for _ in range(steps % 6):
                await asyncio.sleep(0)
            call.cancel()
            for received in await asyncio.gather(call, return_exceptions=True):
                if not isinstance(received, BaseException):
                    await context.settle(consumer, Verdict.ACK, *received.deliveries)
                    got += ids_of(received.deliveries)
        while len(got) < 25:
            deliveries = await context.receive(consumer)
            if backend.capabilities[Capability.DELIVERY_COUNT].properties.get("kind") == "exact":
                assert [one.delivery_count for one in deliveries] == [1] * len(deliveries)
            await context.settle(consumer, Verdict.ACK, *deliveries)
            got += ids_of(deliveries)
        assert sorted(got) == sorted(ids)

    @case("receive_cancel_is_raised", level="core", rationale="who swallows a cancel keeps its caller from ever ending")
    async def test_receive_cancel_is_raised(self, context: CaseContext) -> None:
        """A receive that is cancelled while there is nothing ends at once, as cancelled; the next one works."""
        backend = await context.open()
        consumer = backend.consumer(["q"])
        for steps in range(5):
            call = context.start(consumer.receive(1, context.patience))
            for _ in range(3 * steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call}, timeout=context.patience / 2)
            assert call.done(), f"cancelled after {3 * steps} steps, it goes on"
            assert call.cancelled(), f"cancelled after {3 * steps} steps, it swallowed that: {call}"
        ids = await context.submit(backend, context.message())
        assert await context.drain(consumer, 1) == ids


class _Settling:
    """What becomes of a delivery."""

    @case("ack_removes", level="core", rationale="what is done must not be done again")
    async def test_ack_removes(self, context: CaseContext) -> None:
        """Acknowledged: gone, also after the lease, for everybody."""
        backend, other = await context.open(lease=0.5), await context.open(lease=0.5)
        ids = await context.submit(backend, *context.messages(5))
        consumer = backend.consumer(["q"])
        assert sorted(await context.drain(consumer, 5)) == sorted(ids)
        await context.quiet(other.consumer(["q"]), 1.0)
        if backend.capabilities.has(Capability.INSPECT_DEPTH):
            assert [info.name for info in await backend.inspector().queues() if any(info.ready.values())] == []

    @case("ack_twice_ok", level="core", rationale="a repeated answer must not remove somebody else's message")
    async def test_ack_twice_ok(self, context: CaseContext) -> None:
        """The second settlement says LOST and changes nothing, whatever its verdict."""
        backend = await context.open()
        first, second = await context.submit(backend, *context.messages(2))
        consumer = backend.consumer(["q"])
        (held,) = await context.receive(consumer)
        await context.settle(consumer, Verdict.ACK, held)
        for verdict in (Verdict.ACK, Verdict.NACK):
            assert list(await consumer.settle([Settlement(held, verdict)])) == [Settled.LOST]
        assert {*ids_of([held]), *await context.drain(consumer, 1)} == {first, second}
        await context.quiet(consumer, 0.2)

    @case("settle_answers_each", level="core", rationale="one bad settlement must not take its neighbours along")
    async def test_settle_answers_each(self, context: CaseContext) -> None:
        """What can be settled is, what nobody can carry out says so and stays held, and a lost one is LOST."""
        backend = await context.open()
        await context.submit(backend, *context.messages(4))
        consumer = backend.consumer(["q"])
        held = await context.receive(consumer, 4)
        first, settled, bad, last = held
        await context.settle(consumer, Verdict.ACK, settled)
        verdicts = {first: Verdict.ACK, settled: Verdict.ACK, bad: Verdict.REPLACE, last: Verdict.ACK}
        answers = list(await consumer.settle([Settlement(one, verdicts[one]) for one in held]))
        done = (Settled.CONFIRMED, Settled.SENT)
        assert [answer in done for answer in answers] == [True, False, False, True], answers
        assert answers[1] is Settled.LOST
        assert isinstance(answers[2], InvalidOptionError), answers[2]
        assert "replacement" in str(answers[2])
        await context.settle(consumer, Verdict.ACK, bad)
        await context.quiet(consumer, 0.2)

    @case(
        "nack_redelivers_now", level="core", rationale="a worker that cannot run a task must not block it for a lease"
    )
    async def test_nack_redelivers_now(self, context: CaseContext) -> None:
        """Back at once, although the lease is long."""
        backend, other = await context.open(lease=60), await context.open(lease=60)
        ids = await context.submit(backend, context.message())
        consumer = backend.consumer(["q"])
        await context.settle(consumer, Verdict.NACK, *await context.receive(consumer))
        await consumer.aclose()
        assert await context.drain(other.consumer(["q"]), 1) == ids

    @case(
        "reject_dead_letters",
        level="capability",
        needs={Capability.DEAD_LETTERS},
        rationale="a task that was given up must be found with everything needed to run it again",
    )
    async def test_reject_dead_letters(self, context: CaseContext) -> None:
        """Gone from the queue; kept with reason, detail, headers, body and the number of deliveries."""
        backend = await context.open()
        message = context.message(headers={"x-mine": "kept"}, queue="q")
        (task_id,) = await context.submit(backend, message)
        consumer = backend.consumer(["q"])
        await context.settle(consumer, Verdict.NACK, *await context.receive(consumer))
        (held,) = await context.receive(consumer)
        await context.settle(consumer, Verdict.REJECT, held, reason="delivery-limit", detail="delivered 2 times")
        await context.quiet(consumer, 0.2)
        (letter,) = await backend.inspector().dead("q")
        assert (letter.task_id, letter.task, letter.queue) == (task_id, "conformance.echo", "q")
        assert (letter.reason, letter.detail) == ("delivery-limit", "delivered 2 times")
        assert (letter.body, letter.content_type) == (message.body, message.content_type)
        assert headers_of(held).items() <= dict(letter.headers).items()
        if backend.capabilities.has(Capability.DELIVERY_COUNT):
            assert letter.deliveries >= 2
        assert abs(letter.died_at - time.time()) < 60

    @case("settle_batch_mixed", level="core", rationale="answers belong to their settlements, one by one")
    async def test_settle_batch_mixed(self, context: CaseContext) -> None:
        """Done, back, and already settled, in one batch, each with its own answer."""
        backend = await context.open()
        await context.submit(backend, *context.messages(3))
        consumer = backend.consumer(["q"])
        done, back, old = await context.receive(consumer, 3)
        await context.settle(consumer, Verdict.ACK, old)
        verdicts = ((done, Verdict.ACK), (old, Verdict.ACK), (back, Verdict.NACK))
        answers = await consumer.settle([Settlement(delivery, verdict) for delivery, verdict in verdicts])
        assert [answer is Settled.LOST for answer in answers] == [False, True, False]
        assert await context.drain(consumer, 1) == ids_of([back])
        await context.quiet(consumer, 0.2)

    @case(
        "settle_fused_is_atomic",
        level="capability",
        needs={Capability.FUSED_SETTLE, Capability.RESULTS},
        rationale="an acknowledged task without its result leaves its caller waiting for ever",
    )
    async def test_settle_fused_is_atomic(self, context: CaseContext) -> None:
        """Both happen: the result can be read, by anybody, as soon as the settlement is confirmed."""
        backend, other = await context.open(), await context.open()
        ids = await context.submit(backend, *context.messages(3))
        consumer = backend.consumer(["q"])
        held = await context.receive(consumer, 3)
        results = {task_id: context.result(task_id, number) for number, task_id in enumerate(ids)}
        answers = await consumer.settle(
            [Settlement(one, Verdict.ACK, result=results[ids_of([one])[0]]) for one in held]
        )
        assert list(answers) == [Settled.CONFIRMED] * 3
        stored = await other.results().get_many(ids)
        assert [one.state for one in stored] == [TaskState.SUCCESS] * 3
        assert [one.document for one in stored] == [results[task_id].document for task_id in ids]
        late = Settlement(held[0], Verdict.ACK, result=context.result("never-written", 1))
        assert list(await consumer.settle([late])) == [Settled.LOST]
        (unwritten,) = await other.results().get_many(["never-written"])
        assert not unwritten.state.terminal, "a settlement that was LOST stored its result"
        await context.quiet(consumer, 0.2)


class ConsumerSuite(_Receiving, _Settling, LeaseCases, CrashCases, OrderCases):
    """Everything about taking: receiving, settling, leases, crashes, order."""


async def _wake_latency(context: CaseContext, consumer: Consumer, producer: Backend) -> float:
    """Seconds from the end of a submit to the delivery at a consumer that waits."""
    call = context.start(consumer.receive(1, context.patience))
    (nothing,) = (await asyncio.wait({call}, timeout=0.05))[0] or (None,)
    assert nothing is None, "the queue was to be empty"
    await context.submit(producer, context.message())
    started = time.monotonic()
    received = await call
    latency = time.monotonic() - started
    assert len(received.deliveries) == 1, "a waiting receive() returned without the message"
    await context.settle(consumer, Verdict.ACK, *received.deliveries)
    return latency


async def _work(context: CaseContext, consumer: Consumer, got: list[str], total: int) -> None:
    """Acknowledge what comes until everybody together has ``total``, then watch a little longer."""
    end = time.monotonic() + 2 * context.patience
    while len(got) < total and time.monotonic() < end:
        await _take(context, consumer, got, 0.2)
    await _take(context, consumer, got, 0.2)


async def _take(context: CaseContext, consumer: Consumer, got: list[str], wait: float) -> None:
    deliveries = (await consumer.receive(7, wait)).deliveries
    # Noted first: a message that comes twice is a finding, whatever its settlement says.
    got += ids_of(deliveries)
    if deliveries:
        await context.settle(consumer, Verdict.ACK, *deliveries)


async def _one(context: CaseContext, consumer: Consumer) -> list[str]:
    deliveries = (await consumer.receive(1, context.patience)).deliveries
    await context.settle(consumer, Verdict.ACK, *deliveries)
    return ids_of(deliveries)
