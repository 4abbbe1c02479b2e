"""Answers that are lost with the connection: nothing is kept by mistake, nothing is said wrongly."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from consumer_kit import KeySpace, counts, messages, take, tapped
from redis_context import eventually
from redis_kit import Raw, settled, until_works
from tap import Tap

from tranship.envelope import TaskState
from tranship.errors import BrokerUnreachable
from tranship.ports import Consumer, Delivery, Settled, Settlement, Verdict
from tranship.testing.context import CaseContext, ids_of
from tranship_redis._scripts import Script

SHA = {name: Script(name).sha for name in ("claim", "settle", "release", "quarantine")}

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def keyspace(context: CaseContext, raw: Raw) -> KeySpace:
    return KeySpace(context, raw)


async def settle(consumer: Consumer, verdict: Verdict, *deliveries: Delivery, **more: object) -> list[Settled]:
    """Carry out one verdict on all; the first that fails is raised."""
    return await settled(consumer, [Settlement(one, verdict, **more) for one in deliveries])


async def again(consumer: Consumer, verdict: Verdict, *deliveries: Delivery, **more: object) -> list[Settled]:
    """Settle, as often as it takes."""
    return await until_works(lambda: settle(consumer, verdict, *deliveries, **more))


async def lose_answer(tap: Tap, script: str, call: object) -> None:
    """Let the script reach the server, and its answer not reach us."""
    tap.needle = SHA[script]
    with pytest.raises(BrokerUnreachable):
        await call  # type: ignore[misc]


# --- claims ---------------------------------------------------------------------------------------


async def test_claims_nobody_heard_of_are_given_back_at_once(context: CaseContext, keyspace: KeySpace) -> None:
    """With a lease of a minute: there again with the next connection, in order, not counted."""
    async with tapped(context) as (tap, backend):
        consumer, other = backend.consumer(["q"]), (await context.open(lease=60)).consumer(["q"])
        await context.submit(backend, *messages(context, "a", "b", "c", "d"))
        held = await take(consumer, 1)
        await lose_answer(tap, "claim", consumer.receive(2, 5.0))
        await eventually(lambda: len(keyspace.elements()) == 3, "what nobody heard of is back")
        assert counts(await take(other, 3)) == {"b": 1, "c": 1, "d": 1}
        # What it did hear of is still its own.
        assert await again(consumer, Verdict.ACK, *held) == [Settled.CONFIRMED]


async def test_only_ones_own_claims_are_given_back(context: CaseContext, keyspace: KeySpace) -> None:
    async with tapped(context) as (tap, backend):
        one, two = backend.consumer(["q"]), backend.consumer(["q"])
        other = (await context.open(lease=60)).consumer(["q"])
        await context.submit(backend, *context.messages(6))
        held = {consumer: await take(consumer, 1) for consumer in (one, two, other)}
        await lose_answer(tap, "claim", one.receive(2, 5.0))
        await eventually(lambda: len(keyspace.elements()) == 3, "what nobody heard of is back")
        for consumer, deliveries in held.items():
            assert list(await until_works(lambda: consumer.extend(deliveries))) == [True]  # noqa: B023


async def test_a_quarantine_nobody_heard_of_leaves_dead_letters(context: CaseContext, keyspace: KeySpace) -> None:
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        await consumer.receive(1, 0.0)
        keyspace.push(
            b'{"body": "", "headers": {"id": "x\n"}, "properties": {"delivery_tag": "t", "delivery_info": '
            b'{"exchange": "", "routing_key": "q"}}}'
        )
        await context.submit(backend, context.message(id="good"))
        await lose_answer(tap, "quarantine", consumer.receive(5, 5.0))
        held = await until_works(lambda: take(consumer, 1))
        assert counts(held) == {"good": 1}
        assert [letter.reason for letter in keyspace.letters()] == ["malformed"]


async def test_a_release_that_never_arrived_is_made_up_for(context: CaseContext, keyspace: KeySpace) -> None:
    async with tapped(context) as (tap, backend):
        consumer, other = backend.consumer(["q"]), (await context.open(lease=60)).consumer(["q"])
        await context.submit(backend, *messages(context, "a", "b"))
        held = await take(consumer, 2)
        tap.hold()
        release = context.start(consumer.release(held[:1]))
        await asyncio.sleep(0.05)
        tap.cut()
        with pytest.raises(BrokerUnreachable):
            await release
        assert counts(await take(other, 1)) == {"a": 1}
        assert list(await until_works(lambda: consumer.extend(held))) == [False, True]


async def test_a_waiting_receive_outlives_its_connection(context: CaseContext, raw: Raw) -> None:
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        waiting = context.start(consumer.receive(1, 30.0))
        await asyncio.wait({waiting}, timeout=0.1)
        tap.cut()
        ids = await context.submit(await context.open(), context.message())
        assert ids_of((await asyncio.wait_for(waiting, 10.0)).deliveries) == ids


async def test_a_new_connection_is_told_of_changes_too(context: CaseContext, keyspace: KeySpace) -> None:
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        await consumer.receive(1, 0.0)
        tap.cut()
        await until_works(lambda: consumer.receive(1, 0.0))
        waiting = context.start(consumer.receive(1, 10.0))
        await asyncio.wait({waiting}, timeout=0.1)
        keyspace.push(keyspace.kombu("a"))
        done, _ = await asyncio.wait({waiting}, timeout=1.0)
        assert done, "it was not told"


# --- settlements ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_settled_again_after_a_lost_answer_says_what_became_of_it(
    context: CaseContext, keyspace: KeySpace, verdict: Verdict
) -> None:
    """Carried out once, CONFIRMED once; settled a third time it is LOST, as ever."""
    more = {"replacement": context.message(id="a", attempt=1)} if verdict is Verdict.REPLACE else {}
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        await context.submit(backend, context.message(id="a"))
        held = await take(consumer, 1)
        result = context.result("a", 1) if verdict is Verdict.ACK else None
        await lose_answer(tap, "settle", settle(consumer, verdict, *held, result=result, **more))
        assert await again(consumer, verdict, *held, result=result, **more) == [Settled.CONFIRMED]
        assert await settle(consumer, verdict, *held, result=result, **more) == [Settled.LOST]
        assert len(keyspace.elements()) == (verdict in (Verdict.NACK, Verdict.REPLACE))
        assert len(keyspace.letters()) == (verdict is Verdict.REJECT)
        assert (keyspace.result("a") is not None) is (verdict is Verdict.ACK)
        assert keyspace.unacked() == {}


async def test_what_was_lost_stays_lost(context: CaseContext, keyspace: KeySpace) -> None:
    """Of a batch whose answer went missing, one was not ours: it is LOST the second time, too, and only it."""
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        await context.submit(backend, *messages(context, "a", "b", "c"))
        held = await take(consumer, 3)
        keyspace.raw("ZREM", keyspace.key("tranship:leases"), held[1].token.token)
        settlements = [
            Settlement(one, Verdict.ACK, result=context.result(task, 1)) for one, task in zip(held, "abc", strict=True)
        ]
        await lose_answer(tap, "settle", settled(consumer, settlements))
        answers = await until_works(lambda: settled(consumer, settlements))
        assert list(answers) == [Settled.CONFIRMED, Settled.LOST, Settled.CONFIRMED]
        stored = await backend.results().get_many(["a", "b", "c"])
        assert [one.state for one in stored] == [TaskState.SUCCESS, TaskState.PENDING, TaskState.SUCCESS]


async def test_answers_lost_twice(context: CaseContext, keyspace: KeySpace) -> None:
    """Carried out by the first attempt, asked for by a second whose answer is lost as well, told by the third."""
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        await context.submit(backend, *messages(context, "a", "b"))
        held = await take(consumer, 2)
        await lose_answer(tap, "settle", settle(consumer, Verdict.NACK, *held))
        await until_works(lambda: consumer.extend([]))
        await until_works(lambda: consumer.receive(1, 0.0, skip={"q"}))
        await eventually(lambda: backend._supervisor.connected, "connected again")
        await lose_answer(tap, "settle", settle(consumer, Verdict.NACK, *held))
        assert await again(consumer, Verdict.NACK, *held) == [Settled.CONFIRMED] * 2
        assert counts(await take(consumer, 2)) == {"a": 2, "b": 2}


async def test_in_other_company_the_second_time(context: CaseContext, keyspace: KeySpace) -> None:
    """What was lost as one batch is settled again one by one, and with others."""
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        await context.submit(backend, *messages(context, "a", "b", "c", "d"))
        a, b, c, d = await take(consumer, 4)
        await lose_answer(tap, "settle", settle(consumer, Verdict.ACK, a, b, c))
        assert await again(consumer, Verdict.ACK, d, c) == [Settled.CONFIRMED] * 2
        assert await settle(consumer, Verdict.ACK, a) == [Settled.CONFIRMED]
        assert await settle(consumer, Verdict.ACK, b) == [Settled.CONFIRMED]
        assert await settle(consumer, Verdict.ACK, a, b, c, d) == [Settled.LOST] * 4
        keyspace.nothing_held()


async def test_late_bytes_do_no_harm(context: CaseContext, keyspace: KeySpace) -> None:
    """A settlement that was given up arrives after it was settled again: nothing happens twice."""
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        await context.submit(backend, *messages(context, "a", "b"))
        held = await take(consumer, 2)
        pipes = tap.hold()
        first = context.start(settle(consumer, Verdict.NACK, *held))
        await asyncio.sleep(0.05)
        tap.cut()
        with pytest.raises(BrokerUnreachable):
            await first
        assert await again(consumer, Verdict.NACK, *held) == [Settled.CONFIRMED] * 2
        for pipe in pipes:
            pipe.release()
        assert counts(await take(consumer, 2)) == {"a": 2, "b": 2}
        assert keyspace.elements() == []


async def test_a_settlement_that_never_arrived_is_carried_out_by_the_second(
    context: CaseContext, keyspace: KeySpace
) -> None:
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        await context.submit(backend, context.message(id="a"))
        held = await take(consumer, 1)
        tap.hold()
        first = context.start(settle(consumer, Verdict.ACK, *held, result=context.result("a", 1)))
        await asyncio.sleep(0.05)
        tap.cut()
        with pytest.raises(BrokerUnreachable):
            await first
        assert keyspace.result("a") is None
        assert await again(consumer, Verdict.ACK, *held, result=context.result("a", 1)) == [Settled.CONFIRMED]
        assert keyspace.result("a") is not None
        keyspace.nothing_held()


async def test_late_bytes_are_shut_out_by_any_later_batch(context: CaseContext, keyspace: KeySpace) -> None:
    """Given up, and arriving after something else was settled: what it was about is still held, and unharmed."""
    async with tapped(context) as (tap, backend):
        consumer = backend.consumer(["q"])
        await context.submit(backend, *messages(context, "a", "b"))
        a, b = await take(consumer, 2)
        pipes = tap.hold()
        first = context.start(settle(consumer, Verdict.NACK, a))
        await asyncio.sleep(0.05)
        tap.cut()
        with pytest.raises(BrokerUnreachable):
            await first
        assert await again(consumer, Verdict.ACK, b) == [Settled.CONFIRMED]
        for pipe in pipes:
            pipe.release()
        assert await settle(consumer, Verdict.ACK, a) == [Settled.CONFIRMED]
        keyspace.nothing_held()
        assert keyspace.elements() == []


async def test_a_connection_that_keeps_breaking(context: CaseContext, keyspace: KeySpace) -> None:
    """Cut at any moment, 300 tasks, leases of a minute: each is confirmed exactly once, and nothing is left."""
    async with tapped(context) as (tap, backend):
        ids = await context.submit(await context.open(), *context.messages(300))
        confirmed: Counter[str] = Counter()
        end = asyncio.get_running_loop().time() + 40

        async def work(consumer: Consumer) -> None:
            while sum(confirmed.values()) < len(ids) and asyncio.get_running_loop().time() < end:
                held = await until_works(lambda: consumer.receive(3, 0.2))
                pairs = zip(held.deliveries, ids_of(held.deliveries), strict=True)
                settlements = [Settlement(one, Verdict.ACK, result=context.result(task, 1)) for one, task in pairs]
                answers = await until_works(lambda settlements=settlements: settled(consumer, settlements))
                done = zip(ids_of(held.deliveries), answers, strict=True)
                confirmed.update(task for task, answer in done if answer is Settled.CONFIRMED)

        async def break_it() -> None:
            for _ in range(50):
                await asyncio.sleep(random.uniform(0.002, 0.12))
                tap.needle = random.choice([b"", SHA["claim"], SHA["settle"], SHA["release"]])
                if random.random() < 0.5:
                    tap.cut()
            tap.needle = b""

        breaking = context.start(break_it())
        await asyncio.gather(*(work(backend.consumer(["q"])) for _ in range(2)))
        breaking.cancel()
        assert confirmed == Counter(ids), confirmed.most_common(2)
        stored = await (await context.open()).results().get_many(ids)
        assert {one.state for one in stored} == {TaskState.SUCCESS}
    await eventually(lambda: not keyspace.tokens(), "nothing is left")
    keyspace.nothing_held()
