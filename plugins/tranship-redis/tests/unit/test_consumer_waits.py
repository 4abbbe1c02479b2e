"""Waiting: what wakes a consumer, what a cancelled or closed one leaves behind."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
import weakref
from collections.abc import Callable

import pytest
from consumer_kit import KeySpace, counts, messages, settle, take
from redis_context import eventually
from redis_kit import Raw, need_rights_of_subcommands

from tranship.envelope import Priority
from tranship.errors import BusyError, ClosedError
from tranship.ports import Consumer, Verdict
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.harness import Harness
from tranship.testing.services import Service
from tranship_redis import _taking


@pytest.fixture
def keyspace(context: CaseContext, raw: Raw) -> KeySpace:
    return KeySpace(context, raw)


def claims(keyspace: KeySpace) -> int:
    """How many scripts have been run on the server; claims, where nothing else happens."""
    info = keyspace.raw("INFO", "commandstats").decode()
    line = next((line for line in info.splitlines() if line.startswith("cmdstat_evalsha:")), "calls=0,")
    return int(line.partition("calls=")[2].partition(",")[0])


# --- being woken ----------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", list(Priority))
async def test_anybodys_push_wakes(context: CaseContext, keyspace: KeySpace, priority: Priority) -> None:
    """Also Celery's, which tells nobody: within a round trip, not with the next look."""
    backend = await context.open(lease=60)
    consumer = backend.consumer(["p", "q"])
    waits = []
    for number in range(5):
        waiting = context.start(consumer.receive(1, 10.0))
        await asyncio.wait({waiting}, timeout=0.05)
        started = time.monotonic()
        keyspace.push(keyspace.kombu(f"a-{number}"), priority=priority)
        assert ids_of((await waiting).deliveries) == [f"a-{number}"]
        waits.append(time.monotonic() - started)
    assert statistics.median(waits) < 0.1, waits


async def test_an_idle_consumer_leaves_the_server_alone(context: CaseContext, keyspace: KeySpace) -> None:
    backend = await context.open(lease=60, celery="off")
    consumer = backend.consumer(["q"])
    await consumer.receive(1, 0.0)
    before = claims(keyspace)
    await consumer.receive(1, 1.0)
    assert claims(keyspace) - before <= 3


async def test_consumers_of_one_backend_wake_each_other(context: CaseContext, keyspace: KeySpace) -> None:
    """The server does not tell a connection of its own changes: nacked, released, retried by one, taken by the other."""
    backend = await context.open(lease=60)
    one, other = backend.consumer(["q"]), backend.consumer(["q"])

    async def handed_over(give: Callable[[], object]) -> None:
        waiting = context.start(other.receive(1, 10.0))
        await asyncio.wait({waiting}, timeout=0.05)
        started = time.monotonic()
        await give()  # type: ignore[misc]
        (held,) = (await waiting).deliveries
        assert time.monotonic() - started < _taking.SAFETY / 2
        await settle(other, Verdict.ACK, held)

    for number in range(4):
        await context.submit(backend, context.message(id=f"a-{number}"))
        held = await take(one, 1)
        again = context.message(id=f"a-{number}", attempt=1)
        await handed_over(
            [
                lambda held=held: settle(one, Verdict.NACK, *held),
                lambda held=held: one.release(held),
                lambda held=held, again=again: settle(one, Verdict.REPLACE, *held, replacement=again),
                one.aclose,
            ][number]
        )
    keyspace.nothing_held()


async def test_a_flushed_database_does_not_put_anybody_to_sleep(
    context: CaseContext, raw: Raw, keyspace: KeySpace
) -> None:
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    waiting = context.start(consumer.receive(1, 10.0))
    await asyncio.wait({waiting}, timeout=0.05)
    raw("FLUSHDB")
    started = time.monotonic()
    keyspace.push(keyspace.kombu("a"))
    assert ids_of((await waiting).deliveries) == ["a"]
    assert time.monotonic() - started < _taking.SAFETY / 2


async def test_where_tracking_is_forbidden_consumers_look_themselves(redis_variant: Callable[..., Service]) -> None:
    service = redis_variant()
    address = service.url.partition("://")[2].partition("/")[0]
    need_rights_of_subcommands(Raw(service), "client|tracking")
    Raw(service)("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "&*", "+@all", "-client|tracking")
    async with CaseContext(Harness(f"redis://deaf:pw@{address}/0"), "deaf") as context:
        backend, producer = await context.open(lease=60), await context.open()
        consumer = backend.consumer(["q"])
        waiting = context.start(consumer.receive(1, 10.0))
        await asyncio.wait({waiting}, timeout=0.2)
        started = time.monotonic()
        await context.submit(producer, context.message(id="a"))
        assert ids_of((await waiting).deliveries) == ["a"]
        assert time.monotonic() - started < _taking.SAFETY / 2


async def test_a_lost_push_costs_seconds_and_no_task(
    context: CaseContext, keyspace: KeySpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_taking, "SAFETY", 0.3)
    monkeypatch.setattr(_taking.Taking, "changed", lambda *_: None)
    backend = await context.open(lease=60)
    waiting = context.start(backend.consumer(["q"]).receive(1, 10.0))
    await asyncio.wait({waiting}, timeout=0.05)
    keyspace.push(keyspace.kombu("a"))
    assert ids_of((await waiting).deliveries) == ["a"]


# --- cancelled and closed -------------------------------------------------------------------------


async def test_what_a_cancelled_receive_would_have_brought_is_given_back(
    context: CaseContext, keyspace: KeySpace
) -> None:
    """Cancelled after every number of steps: there for the next one, in order, not counted."""
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    await consumer.receive(1, 0.0)
    await context.submit(backend, *messages(context, "a", "b", "c"))
    for steps in range(12):
        call = context.start(consumer.receive(5, 5.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        if not call.cancelled():
            await consumer.release(call.result().deliveries)
        held = await take(consumer, 3)
        assert list(counts(held).items()) == [("a", 1), ("b", 1), ("c", 1)]
        await consumer.release(held)
    await eventually(lambda: len(keyspace.elements()) == 3, "everything is back")
    keyspace.nothing_held()


@pytest.mark.parametrize("steps", range(8))
async def test_closing_gives_back_what_is_on_its_way(context: CaseContext, keyspace: KeySpace, steps: int) -> None:
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    await consumer.receive(1, 0.0)
    await context.submit(backend, *messages(context, "a", "b", "c"))
    held = await take(consumer, 1)
    call = context.start(consumer.receive(5, 5.0))
    for _ in range(steps):
        await asyncio.sleep(0)
    await asyncio.gather(consumer.aclose(), consumer.aclose())
    keyspace.nothing_held()
    assert len(keyspace.elements()) == 3
    (outcome,) = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(outcome, ClosedError) or outcome.deliveries
    for call in (consumer.extend(held), consumer.release(held), settle(consumer, Verdict.ACK, *held)):
        with pytest.raises(ClosedError):
            await call
    assert list(counts(await take(backend.consumer(["q"]), 3)).values()) == [1, 1, 1]


async def test_closing_the_backend_gives_back_everything(context: CaseContext, keyspace: KeySpace) -> None:
    backend = await context.open(lease=60)
    consumers = [backend.consumer(["q"]) for _ in range(3)]
    await context.submit(backend, *context.messages(30))
    for consumer in consumers:
        await take(consumer, 5)
    waiting = [context.start(consumer.receive(5, 9.0)) for consumer in consumers]
    await asyncio.sleep(0)
    await backend.aclose()
    assert len(keyspace.elements()) == 30
    keyspace.nothing_held()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_unused_consumer_needs_nothing(context: CaseContext) -> None:
    backend = await context.open()
    consumer = backend.consumer(["q"])
    assert consumer.lease == 30.0
    assert consumer.hard_limit is None
    assert await consumer.settle([]) == []
    assert await consumer.extend([]) == []
    await consumer.release([])
    await consumer.aclose()
    with pytest.raises(ClosedError):
        await consumer.receive(1, 0.0)


async def test_one_receive_at_a_time_and_the_next_after_a_cancelled_one(context: CaseContext) -> None:
    backend = await context.open()
    consumer = backend.consumer(["q"])
    waiting = context.start(consumer.receive(1, 9.0))
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await consumer.receive(1, 0.0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not (await consumer.receive(1, 0.0)).deliveries


async def test_with_every_queue_skipped_the_time_passes(context: CaseContext) -> None:
    backend = await context.open()
    await context.submit(backend, context.message())
    started = time.monotonic()
    assert not (await backend.consumer(["q"]).receive(1, 0.2, skip={"q"})).deliveries
    assert 0.15 < time.monotonic() - started < 2


async def test_nothing_of_a_closed_backend_is_kept(context: CaseContext) -> None:
    """The bells of a link must not keep it alive."""
    backend = await context.open()
    consumer = backend.consumer(["q"])
    await consumer.receive(1, 0.0)
    link = weakref.ref(backend._supervisor.current.main)
    await backend.aclose()
    context._backends.remove(backend)
    del backend, consumer
    gc.collect()
    assert link() is None


async def test_what_was_emptied_is_not_looked_at_again_before_the_bell(
    context: CaseContext, keyspace: KeySpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that took all there was has armed the bell: the next receive waits for it, and looks once at its end."""
    monkeypatch.setattr(_taking, "SAFETY", 1e9)
    backend = await context.open(lease=60, celery="off")
    consumer = backend.consumer(["q"])
    await context.submit(backend, *messages(context, "a", "b"))
    held = await take(consumer, 2)
    await consumer.receive(1, 0.3)
    # Not the server's count of scripts: the sweeper may run its own meanwhile.
    (view,) = backend._supervisor.current.queue.taking._watched
    before = view.looks
    assert not (await consumer.receive(1, 0.3)).deliveries
    assert view.looks - before <= 1
    # Between two receives the bell is heard as well.
    keyspace.push(keyspace.kombu("c"))
    assert ids_of((await consumer.receive(1, 0.05)).deliveries) == ["c"]
    await settle(consumer, Verdict.NACK, *held)
    assert ids_of(await take(consumer, 2)) == ["a", "b"]


async def test_a_cancelled_look_at_some_queues_does_not_silence_the_bell_of_others(
    context: CaseContext, keyspace: KeySpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that was skipped for a moment, and got a message in it."""
    monkeypatch.setattr(_taking, "SAFETY", 60.0)
    backend = await context.open(lease=60, celery="off")
    consumer = backend.consumer(["q", "skipped"])
    await consumer.receive(1, 0.0)
    other = await context.open()
    looking = context.start(consumer.receive(1, 60.0))
    await asyncio.wait({looking}, timeout=0.05)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await context.submit(other, context.message(id="a", queue="skipped"))
    (view,) = backend._supervisor.current.queue.taking._watched
    await eventually(lambda: not view.emptied, "the server has told")
    looking = context.start(consumer.receive(1, 60.0, skip={"skipped"}))
    for _ in range(2):
        await asyncio.sleep(0)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await eventually(lambda: view.emptied == {"q"}, "the answer has come")
    async with asyncio.timeout(5):
        assert ids_of((await consumer.receive(1, 60.0)).deliveries) == ["a"]


async def test_many_queues_are_served_like_few(
    context: CaseContext, keyspace: KeySpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By level first, what is due among them, garbage set apart; and anything that comes later rings the bell."""
    monkeypatch.setattr(_taking, "SAFETY", 60.0)
    backend, other = await context.open(lease=60), await context.open()
    queues = [f"q-{number}" for number in range(50)]
    consumer = backend.consumer(queues)
    for number, priority in enumerate((Priority.LOW, Priority.HIGH, Priority.VERY_LOW, Priority.NORMAL)):
        await context.submit(
            other, context.message(id=priority.name, queue=queues[7 + 13 * number - number], priority=priority)
        )
    await context.submit(other, context.message(id="due", queue=queues[33], not_before=time.time() + 0.05))
    keyspace.push("garbage", queue=queues[49], priority=Priority.VERY_LOW)
    got = await take(consumer, 6)
    names = ids_of([one for one in got if not one.token.letter])
    assert [name for name in names if name != "due"] == ["HIGH", "NORMAL", "LOW", "VERY_LOW"]
    assert [letter.reason for letter in keyspace.letters()] == ["malformed"]
    await settle(consumer, Verdict.ACK, *got)
    for number in (0, 21, 49):
        waiting = context.start(consumer.receive(1, 60.0))
        await asyncio.wait({waiting}, timeout=0.05)
        later = time.time() + 0.1 if number == 21 else None
        await context.submit(other, context.message(id=f"a-{number}", queue=queues[number], not_before=later))
        async with asyncio.timeout(5):
            (held,) = (await waiting).deliveries
        assert ids_of([held]) == [f"a-{number}"]
        await settle(consumer, Verdict.ACK, held)
    waiting = context.start(consumer.receive(1, 60.0))
    await asyncio.wait({waiting}, timeout=0.05)
    keyspace.push(keyspace.kombu("Celery's"), queue=queues[31], priority=Priority.LOW)
    async with asyncio.timeout(5):
        (held,) = (await waiting).deliveries
    assert ids_of([held]) == ["Celery's"]
    await settle(consumer, Verdict.ACK, held)
    keyspace.nothing_held()


async def test_with_many_queues_the_levels_are_strict(context: CaseContext) -> None:
    """All of one level, in whatever queues, before anything of the next; also what comes when work is under way."""
    backend, other = await context.open(lease=60), await context.open()
    queues = [f"q-{number}" for number in range(100)]
    levels = [Priority.VERY_LOW, Priority.LOW, Priority.NORMAL]
    await context.submit(other, *[context.message(queue=queue, priority=level) for level in levels for queue in queues])
    consumer = backend.consumer(queues)
    got = await take(consumer, 130)
    await context.submit(other, context.message(id="late", queue=queues[90], priority=Priority.HIGH))
    (late,) = (await consumer.receive(1, 0)).deliveries
    assert ids_of([late]) == ["late"]
    got += await take(consumer, 170)
    assert [one.priority for one in got] == [level for level in reversed(levels) for _ in queues]


async def test_with_many_queues_a_full_one_does_not_starve_the_others(context: CaseContext) -> None:
    backend, other = await context.open(lease=60), await context.open()
    queues = [f"q-{number}" for number in range(40)]
    await context.submit(other, *context.messages(200, queue=queues[20]))
    await context.submit(other, *[context.message(id=queue, queue=queue) for queue in queues])
    consumer = backend.consumer(queues)
    got = [one for _ in range(42) for one in await take(consumer, 1)]
    assert {one.queue for one in got} == set(queues)
    await settle(consumer, Verdict.ACK, *got)


async def test_a_queue_that_is_skipped_is_looked_at_later(context: CaseContext) -> None:
    backend, other = await context.open(lease=60), await context.open()
    queues = [f"q-{number}" for number in range(20)]
    consumer = backend.consumer(queues)
    await context.submit(other, *[context.message(id=queue, queue=queue) for queue in queues[:2]])
    assert ids_of((await consumer.receive(5, 5, skip={queues[0]})).deliveries) == [queues[1]]
    assert ids_of((await consumer.receive(5, 5)).deliveries) == [queues[0]]


async def test_a_thousand_queues_are_not_passed_with_every_claim(context: CaseContext, keyspace: KeySpace) -> None:
    """What the server has to read of claims grows with what there is to do, and not with the queues of the worker."""
    backend, other = await context.open(lease=60), await context.open()
    queues = [f"q-{number}" for number in range(1000)]
    consumer = backend.consumer(queues)
    assert (await consumer.receive(10, 0)).deliveries == ()
    await context.submit(other, *[context.message(queue=queue) for queue in queues[:300]])
    before, got = read_bytes(keyspace), []
    while len(got) < 300:
        taken = await take(consumer, 10)
        await settle(consumer, Verdict.ACK, *taken)
        got += taken
    assert read_bytes(keyspace) - before < 1_500_000


def read_bytes(keyspace: KeySpace) -> int:
    """How many bytes of commands the server has read."""
    found = keyspace.raw("INFO", "stats").decode().splitlines()
    return next(int(line.partition(":")[2]) for line in found if line.startswith("total_net_input_bytes:"))


async def test_more_lists_than_the_limit_are_taken_in_turn(context: CaseContext, keyspace: KeySpace) -> None:
    """And one that is no list is said, and hides no other."""
    backend = await context.open(lease=60)
    queues = [f"q-{number}" for number in range(40)]
    keyspace.raw("SET", keyspace.list(queues[0]), "somebody else's")
    for queue in queues[1:]:
        keyspace.push(keyspace.kombu(queue), queue=queue)
    got = await take(backend.consumer(queues), 39)
    assert set(ids_of(got)) == set(queues[1:])


async def test_an_idle_claim_of_many_queues_reads_little(context: CaseContext, keyspace: KeySpace) -> None:
    """Some servers note every key of a claim with each of its reads: with a read per key, 300 queues took 130 ms."""
    backend = await context.open(lease=60, celery="off", tracking="off")
    consumer = backend.consumer([f"q-{number}" for number in range(300)])
    await consumer.receive(1, 0.0)
    before = reads(keyspace)
    await consumer.receive(1, 0.0)
    assert reads(keyspace) - before < 20


def reads(keyspace: KeySpace) -> int:
    """How many commands that read keys the server has carried out."""
    found = keyspace.raw("INFO", "commandstats").decode().splitlines()
    counts_ = dict(line.removeprefix("cmdstat_").split(":calls=") for line in found if ":calls=" in line)
    return sum(int(counts_.get(name, "0").partition(",")[0]) for name in ("exists", "zrange", "lrange", "llen", "hlen"))


@pytest.mark.parametrize("queues", [1, 30])
async def test_no_bell_is_missed(context: CaseContext, monkeypatch: pytest.MonkeyPatch, queues: int) -> None:
    """Four consumers on two backends, of which some nack and give back: without the safety look nobody sleeps over a
    message.
    """
    monkeypatch.setattr(_taking, "SAFETY", 60.0)
    backends = [await context.open(lease=60) for _ in range(2)]
    producer = await context.open()
    total = 250
    done: set[str] = set()
    sent: dict[str, float] = {}
    late: list[float] = []

    async def work(consumer: Consumer) -> None:
        while len(done) < total:
            held = list((await consumer.receive(random.randint(1, 3), 5.0)).deliveries)
            late.extend(time.monotonic() - sent[task] for task in ids_of(held))
            dice = random.random()
            if dice < 0.1:
                await settle(consumer, Verdict.NACK, *held)
            elif dice < 0.2:
                await consumer.release(held)
            else:
                await settle(consumer, Verdict.ACK, *held)
                done.update(ids_of(held))
                continue
            sent.update(dict.fromkeys(ids_of(held), time.monotonic()))

    names = ["q", *[f"q-{number}" for number in range(1, queues)]]
    working = [context.start(work(backend.consumer(names))) for backend in backends * 2]
    for number in range(total):
        task = f"a-{number}"
        sent[task] = time.monotonic()
        later = time.time() + 0.01 if number % 5 == 0 else None
        message = context.message(id=task, not_before=later, queue=random.choice(names))
        await context.submit(random.choice([*backends, producer]), message)
        await asyncio.sleep(random.choice([0, 0, 0.001, 0.01]))
    await eventually(lambda: len(done) == total, "every message is taken")
    for call in working:
        call.cancel()
    await asyncio.gather(*working, return_exceptions=True)
    assert max(late) < 2.0, f"one was slept over for {max(late):.1f} s"
