"""Servers that are full, that forget, and that hold somebody else's keys under our names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from redis_kit import Raw, lab_of, ours, settled, until_received, until_works

from tranship import AsyncClient, task
from tranship.envelope import Receipt, TaskState
from tranship.errors import BrokerRefused, StorageFull
from tranship.ports import (
    Backend,
    Capability,
    Consumer,
    Heartbeat,
    Level,
    QueueBrowser,
    Settled,
    Settlement,
    Tombstone,
    Verdict,
)
from tranship.protocol import decode_result
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.service_harness import ServiceHarness
from tranship.testing.services import Service
from tranship.testing.suites.ports.recovery import submit_again

pytestmark = pytest.mark.timeout(120)


@task(name="bad.echo", queue="q")
def echo(value: object) -> object:
    return value


# --- a full server --------------------------------------------------------------------------------


@pytest.fixture
async def full(redis_variant: Callable[..., Service]) -> AsyncIterator[tuple[CaseContext, Raw, list[str]]]:
    """A server that has three tasks on its queue and no memory left."""
    service = redis_variant("--maxmemory", "0", "--maxmemory-policy", "noeviction")
    raw = Raw(service)
    async with lab_of(service.url) as context:
        ids = await context.submit(await context.open(), *context.messages(3))
        raw("SET", "ballast", "x" * 12_000_000)
        raw("CONFIG", "SET", "maxmemory", "3mb")
        yield context, raw, ids


async def test_a_full_server_takes_no_tasks_and_says_so(full: tuple[CaseContext, Raw, list[str]]) -> None:
    context, raw, _ = full
    backend = await context.open()
    messages = [
        context.message(),
        context.message(check_id=True),
        context.message(dedup_key="k", dedup_window=60),
        context.message(not_before=time.time() + 60),
    ]
    answers = await backend.submitter().submit(messages)
    assert [type(answer) for answer in answers] == [StorageFull] * 4, answers
    assert "maxmemory" in str(answers[0])
    assert answers[0].retryable
    raw("CONFIG", "SET", "maxmemory", "0")
    # Nothing of them is there, so the very same messages are new.
    assert await backend.submitter().submit(messages) == [Receipt(message.envelope.id) for message in messages]


async def test_workers_of_a_full_server_go_on(full: tuple[CaseContext, Raw, list[str]]) -> None:
    """What frees memory must work without any: taking, settling with a result, giving back, rejecting."""
    context, raw, ids = full
    backend = await context.open(lease=5)
    consumer = backend.consumer(["q"])
    done, back, dead = await context.receive(consumer, 3)
    answers = await consumer.settle([Settlement(done, Verdict.ACK, result=context.result(ids_of([done])[0], 1))])
    assert list(answers) == [Settled.CONFIRMED]
    assert list(await consumer.extend([back, dead])) == [True, True]
    await context.settle(consumer, Verdict.REJECT, dead, reason="kit", detail="given up on purpose")
    await context.settle(consumer, Verdict.NACK, back)
    (again,) = await context.receive(consumer)
    assert (ids_of([again]), again.delivery_count) == (ids_of([back]), 2)
    await context.settle(consumer, Verdict.ACK, again)
    raw("CONFIG", "SET", "maxmemory", "0")
    (read,) = await backend.results().get_many(ids_of([done]))
    assert read.state is TaskState.SUCCESS
    assert [letter.task_id for letter in await backend.inspector().dead("q")] == ids_of([dead])
    assert sorted(ids) == sorted(ids_of([done, back, dead]))


async def test_a_client_of_a_full_server_is_told_and_may_try_again(full: tuple[CaseContext, Raw, list[str]]) -> None:
    context, raw, _ = full
    async with AsyncClient(context.url(), result_url=context.url()) as client:
        with pytest.raises(StorageFull, match="maxmemory"):
            await client.submit(echo, 1)
        raw("CONFIG", "SET", "maxmemory", "0")
        assert (await client.submit(echo, 1)).id


async def test_a_result_that_the_server_will_not_push_can_still_be_read(redis_variant: Callable[..., Service]) -> None:
    """Larger than its client-output-buffer-limit for subscribers, which is 32 MB unless told otherwise."""
    service = redis_variant("--client-output-buffer-limit", "pubsub", "8mb", "8mb", "60")
    async with lab_of(service.url) as context, AsyncClient(context.url(), result_url=context.url()) as client:
        handle = await client.submit(echo, "large")
        waiting = context.start(handle.result(8))
        await context.pass_time(0.1)
        assert await (await context.open()).results().put([context.result(handle.id, "x" * 12_000_000)]) == [True]
        assert len(str(await waiting)) == 12_000_000


# --- a server that forgets ------------------------------------------------------------------------


@pytest.mark.parametrize("forget", [("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal")], ids=" ".join)
async def test_forgotten_scripts_and_killed_connections_are_replaced(
    context: CaseContext, raw: Raw, forget: tuple[str, ...]
) -> None:
    backend = await context.open()
    consumer = backend.consumer(["q"])
    for _ in range(3):
        await run_one(context, backend, consumer, before_each=lambda: raw(*forget))


async def run_one(
    context: CaseContext, backend: Backend, consumer: Consumer, *, before_each: Callable[[], object]
) -> None:
    """Submit, receive, settle with a result, and read that; each after ``before_each``."""
    before_each()
    (fresh,) = await submit_again(context, backend)
    before_each()
    held = await until_received(consumer)
    assert ids_of(held) == [fresh]
    before_each()
    settlement = Settlement(held[0], Verdict.ACK, result=context.result(fresh, 1))
    answers = await until_works(lambda: settled(consumer, [settlement]))
    # Settled again after its answer was lost with the connection.
    assert list(answers) in ([Settled.CONFIRMED], [Settled.LOST])
    before_each()
    (read,) = await until_works(lambda: backend.results().get_many([fresh]))
    assert read.state is TaskState.SUCCESS


async def test_scripts_are_there_after_a_restart(redis_variant: Callable[..., Service]) -> None:
    service = redis_variant()
    harness = ServiceHarness(service)
    async with CaseContext(harness, "restart") as context:
        backend = await context.open()
        consumer = backend.consumer(["q"])
        await context.quiet(consumer, 0.1)
        await harness.restart()
        Raw(service)("SCRIPT", "FLUSH")
        (fresh,) = await submit_again(context, backend)
        assert ids_of(await until_received(consumer)) == [fresh]


async def test_a_flushed_database_is_an_empty_one(redis_variant: Callable[..., Service]) -> None:
    """Somebody deletes everything: what was held is LOST, waiting goes on, new tasks run."""
    service = redis_variant()
    async with lab_of(service.url) as context:
        backend = await context.open()
        consumer = backend.consumer(["q"])
        await context.submit(backend, context.message())
        held = await context.receive(consumer)
        waiting = context.start(consumer.receive(1, 20.0))
        await asyncio.sleep(0)
        Raw(service)("FLUSHALL")
        assert list(await consumer.settle([Settlement(held[0], Verdict.ACK)])) == [Settled.LOST]
        ids = await context.submit(backend, context.message())
        assert ids_of((await waiting).deliveries) == ids


async def test_a_server_that_keeps_nothing_says_so_and_goes_on_after_a_restart(
    redis_variant: Callable[..., Service],
) -> None:
    """Not durable, and declared so: what was there is gone with it, what comes later is served."""
    service = redis_variant("--appendonly", "no")
    harness = ServiceHarness(service, options={"keepalive": 1.0, "command_timeout": 3.0})
    async with CaseContext(harness, "volatile") as context:
        backend = await context.open()
        assert not backend.capabilities.has(Capability.DURABLE)
        consumer = backend.consumer(["q"])
        await context.submit(backend, *context.messages(3))
        (held,) = await context.receive(consumer)
        await harness.restart()
        answers = await until_works(lambda: settled(consumer, [Settlement(held, Verdict.ACK)]))
        assert list(answers) == [Settled.LOST]
        ids = await submit_again(context, backend)
        assert ids_of(await until_received(consumer)) == ids


async def test_durable_is_declared_with_how_often_it_is_written(redis_variant: Callable[..., Service]) -> None:
    service = redis_variant("--appendfsync", "everysec")
    async with lab_of(service.url) as context:
        support = (await context.capabilities())[Capability.DURABLE]
    assert (support.level, support.properties["fsync"]) == (Level.NATIVE, "everysec")


@pytest.mark.parametrize(("policy", "warned"), [("allkeys-lru", True), ("volatile-ttl", True), ("noeviction", False)])
async def test_a_server_that_throws_keys_away_is_warned_about(
    redis_variant: Callable[..., Service], caplog: pytest.LogCaptureFixture, policy: str, warned: bool
) -> None:
    service = redis_variant("--maxmemory-policy", policy)
    async with lab_of(service.url) as context:
        await context.open()
    assert any("throw away" in record.message and policy in record.message for record in caplog.records) is warned


# --- keys of the wrong type -----------------------------------------------------------------------


async def test_one_bad_queue_harms_only_itself(context: CaseContext, raw: Raw) -> None:
    raw("SET", ours(context, "bad") + "\x06\x163", "somebody else's")
    backend = await context.open()
    answers = await backend.submitter().submit(
        [context.message(queue="bad"), context.message(), context.message(queue="bad")]
    )
    assert [type(answer) for answer in answers] == [BrokerRefused, Receipt, BrokerRefused]
    assert "bad" in str(answers[0])
    assert await context.drain(backend.consumer(["q"]), 1) == [answers[1].id]


@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("q\x06\x163", ("SET", "x")),
        ("unacked", ("LPUSH", "x")),
        ("unacked_index", ("SET", "x")),
        ("tranship:leases", ("HSET", "a", "x")),
        ("tranship:deliveries", ("SET", "x")),
    ],
    ids=lambda value: value.strip() if isinstance(value, str) else value[0],
)
async def test_a_key_of_another_type_is_named_and_nothing_is_lost(
    context: CaseContext, raw: Raw, key: str, make: tuple[str, ...]
) -> None:
    """Refused for good with the key's name, for whoever needs it; once it is gone the task is there, once."""
    backend = await context.open()
    name = ours(context, key)
    ids = await context.submit(backend, context.message()) if not key.startswith("q") else []
    raw(make[0], name, *make[1:])
    consumer = backend.consumer(["q"])
    with pytest.raises(BrokerRefused) as caught:
        await asyncio.wait_for(consumer.receive(1, 1.0), 10.0)
    assert not caught.value.retryable
    assert key.partition("\x06")[0] in str(caught.value), str(caught.value)
    raw("DEL", name)
    ids = ids or await context.submit(backend, context.message())
    assert await context.drain(consumer, 1) == ids
    await context.quiet(consumer, 0.2)
    assert raw.hash(ours(context, "unacked")) == {}


async def test_a_bad_key_of_delayed_tasks_stops_nothing_else(
    context: CaseContext, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """One consumer, two queues: what is ready in both is served, the key is named once, and once it is gone all works."""
    key = ours(context, "tranship:delayed:bad")
    raw("SET", key, "somebody else's")
    backend = await context.open()
    consumer = backend.consumer(["bad", "q"])
    for round_ in range(3):
        ids = await context.submit(backend, context.message(queue="bad"), context.message())
        assert sorted(await context.drain(consumer, 2)) == sorted(ids), round_
    await context.quiet(consumer, 0.0)
    assert [key in record.message for record in caplog.records] == [True]
    (refused,) = await backend.submitter().submit([context.message(queue="bad", not_before=time.time() + 0.2)])
    assert isinstance(refused, BrokerRefused)
    assert key in str(refused), str(refused)
    raw("DEL", key)
    ids = await context.submit(backend, context.message(queue="bad", not_before=time.time() + 0.2))
    assert await context.drain(consumer, 1) == ids


async def test_a_bad_key_of_delayed_messages_keeps_the_schedule(
    context: CaseContext, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that is due and cannot be read stays where it is; it runs once its message can be read again."""
    key = ours(context, "tranship:delayed-messages:bad")
    backend = await context.open()
    late = await context.submit(backend, context.message(queue="bad", not_before=time.time() + 0.1))
    raw("RENAME", key, key + ":kept")
    raw("SET", key, "somebody else's")
    consumer = backend.consumer(["bad", "q"])
    await context.quiet(consumer, 0.5)
    ids = await context.submit(backend, context.message(), context.message(queue="bad"))
    assert sorted(await context.drain(consumer, 2)) == sorted(ids)
    assert [key in record.message for record in caplog.records] == [True]
    raw("RENAME", key + ":kept", key)
    assert await context.drain(consumer, 1) == late


@pytest.mark.parametrize(
    ("key", "make"),
    [("tranship:rows:d", ("SET", "x")), ("unacked_index", ("SET", "x"))],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
async def test_a_settlement_that_cannot_be_carried_out_loses_nothing(
    context: CaseContext, raw: Raw, key: str, make: tuple[str, ...]
) -> None:
    """Rejecting fails with the key's name and changes nothing: settled again once it is gone, or delivered again."""
    backend = await context.open(lease=1.5)
    ids = await context.submit(backend, context.message())
    consumer = backend.consumer(["q"])
    held = await context.receive(consumer)
    kept = raw("DUMP", ours(context, key)) if key == "unacked_index" else None
    raw("DEL", ours(context, key))
    raw(make[0], ours(context, key), *make[1:])
    rejection = Settlement(held[0], Verdict.REJECT, reason="kit", detail="given up on purpose")
    try:
        (refused,) = await consumer.settle([rejection])
    except BrokerRefused as error:
        refused = error
    assert isinstance(refused, BrokerRefused)
    assert key in str(refused), str(refused)
    raw("DEL", ours(context, key))
    if kept:
        raw("RESTORE", ours(context, key), "0", kept)
    (answer,) = await consumer.settle([rejection])
    if answer is Settled.LOST:
        assert await context.drain(consumer, 1) == ids
    else:
        assert [letter.task_id for letter in await backend.inspector().dead("q")] == ids
        await context.quiet(consumer, 2.0)


async def test_a_result_key_of_another_type_is_named(context: CaseContext, raw: Raw) -> None:
    backend = await context.open()
    raw("LPUSH", ours(context, "celery-task-meta-a-1"), "x")
    with pytest.raises(BrokerRefused) as caught:
        await backend.results().put([context.result("a-1", 1)])
    assert "celery-task-meta-a-1" in str(caught.value)
    (read,) = await backend.results().get_many(["a-2"])
    assert not read.state.terminal


@pytest.mark.parametrize("key", ["tranship:rows:z", "tranship:rows:b", "tranship:queues"])
async def test_what_operators_use_is_named_too(context: CaseContext, raw: Raw, key: str) -> None:
    raw("LPUSH", ours(context, key), "x")
    backend = await context.open()
    beat = Heartbeat(worker="w", host="h", pid=1, queues=["q"], running=[], limit=1, at=time.time())
    calls = {
        "tranship:rows:z": lambda: backend.control().cancel([Tombstone(kind="id", value="a", expires=9e9)]),
        "tranship:rows:b": lambda: backend.control().beat(beat),
        "tranship:queues": lambda: backend.inspector().queues(),
    }
    with pytest.raises(BrokerRefused) as caught:
        await calls[key]()
    assert key in str(caught.value), str(caught.value)
    # Handing over and taking do not depend on it.
    ids = await context.submit(backend, context.message())
    assert await context.drain(backend.consumer(["q"]), 1) == ids


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
async def test_what_is_purged_is_answered_as_the_store_keeps_it(
    context: CaseContext, raw: Raw, serializer: str
) -> None:
    """What says of no task is removed, too, and answered to nobody."""
    backend = await context.open(result_serializer=serializer)
    ids = await context.submit(backend, context.message())
    for odd in ("garbage", "[]", '{"body":"!!","headers":{"id":5},"properties":{}}'):
        raw("LPUSH", ours(context, "q"), odd)
    inspector = backend.inspector()
    assert isinstance(inspector, QueueBrowser)
    assert len(await inspector.waiting("q")) == 4
    assert sorted(await inspector.purge("q")) == ["", *ids]
    assert list(await inspector.waiting("q")) == []
    (result,) = await backend.results().get_many(ids)
    assert result.state is TaskState.CANCELLED
    assert "purged" in str(decode_result(result.document, task_id=ids[0]).error)
    assert (result.document[:1] == b"{") is (serializer == "json")
    assert raw("EXISTS", ours(context, "celery-task-meta-")) == 0
