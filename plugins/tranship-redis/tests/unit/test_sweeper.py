"""Sweeping: what was lost comes back, counted, in order; what Celery holds comes back as Celery does it."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from consumer_kit import KeySpace, counts, messages, settle, take
from kombu import Connection
from redis_context import eventually, opened
from redis_kit import Raw

from tranship.envelope import Priority
from tranship.ports import Verdict
from tranship.testing.context import CaseContext, ids_of
from tranship_redis import _sweeper
from tranship_redis._celery_entries import CeleryEntries
from tranship_redis._scripts import Script
from tranship_redis._sweeper import Sweeper


@pytest.fixture
def keyspace(context: CaseContext, raw: Raw) -> KeySpace:
    return KeySpace(context, raw)


# --- ours -----------------------------------------------------------------------------------------


async def test_what_a_dead_worker_held_comes_back_in_order(context: CaseContext, keyspace: KeySpace) -> None:
    """To the front, counted, the bytes as they were; also with other tags than ours."""
    backend, other = await context.open(lease=0.5), await context.open(lease=60)
    await context.submit(backend, *messages(context, "a", "b", "c"))
    keyspace.push(keyspace.kombu("d"), keyspace.kombu("e", tag=17), keyspace.kombu("f"))
    before = keyspace.elements()
    doomed = backend.consumer(["q"])
    assert len(await take(doomed, 5)) == 5
    again = await take(other.consumer(["q"]), 6)
    assert list(counts(again).items()) == [("f", 1), ("a", 2), ("b", 2), ("c", 2), ("d", 2), ("e", 2)]
    await other.aclose()
    assert keyspace.elements() == [before[5], *before[:5]]


async def test_many_leases_that_end_together_keep_their_order(context: CaseContext, keyspace: KeySpace) -> None:
    """More than one sweep's worth."""
    backend, other = await context.open(lease=0.5), await context.open(lease=60)
    ids = await context.submit(backend, *context.messages(450))
    before = keyspace.elements()
    await take(backend.consumer(["q"]), 450)
    await eventually(lambda: not keyspace.tokens(), "all leases end")
    assert keyspace.elements() == before
    assert counts(await take(other.consumer(["q"]), 450)) == dict.fromkeys(ids, 2)


async def test_a_sweep_alone(context: CaseContext, keyspace: KeySpace, raw: Raw) -> None:
    """What it answers, and what it does with entries that are not what they should be."""
    backend = await context.open(lease=60)
    await context.submit(backend, *messages(context, "a", "b", "c"))
    held = await take(backend.consumer(["q"]), 3)
    leases, unacked = keyspace.key("tranship:leases"), keyspace.key("unacked")
    raw("ZADD", leases, "1", held[0].token.token, "2", held[1].token.token)
    raw("ZADD", keyspace.key("unacked_index"), "0", held[0].token.tag, "0", held[1].token.tag)
    raw("ZADD", leases, "3", keyspace.list() + b"\0nobody's tag\0claim", "4", "no token at all")
    raw("HSET", unacked, held[1].token.tag, "somebody else's value")
    async with opened(context.url(), namespace=context.namespace) as ctx:
        names = [ctx.keys.unacked, ctx.keys.unacked_index, ctx.keys.leases, ctx.keys.deliveries]
        restored, ended, until_next, trouble = await ctx.main.run(Script("sweep"), names, [100])
    assert (restored, ended, trouble) == (1, 4, [])
    assert 50_000 < until_next <= 60_001
    assert [json.loads(one)["headers"]["id"] for one in keyspace.elements()] == ["a"]
    assert keyspace.tokens() == [held[2].token.token]


async def test_what_celery_took_over_from_a_dead_worker_is_celerys(
    context: CaseContext, keyspace: KeySpace, raw: Raw
) -> None:
    """Nobody of ours was there when the lease ended; Celery restored the task, and runs it by now."""
    backend, other = await context.open(lease=60), await context.open(lease=0.5)
    keyspace.push(keyspace.kombu("a"))
    (held,) = await take(backend.consumer(["q"]), 1)
    raw("ZADD", keyspace.key("tranship:leases"), str(time.time() - 1), held.token.token)
    raw("ZADD", keyspace.key("unacked_index"), str(time.time()), held.token.tag)
    assert not (await other.consumer(["q"]).receive(1, 0.0)).deliveries
    await eventually(lambda: not keyspace.tokens(), "the lease is forgotten")
    assert not keyspace.elements()
    assert list(keyspace.unacked()) == keyspace.index() == [held.token.tag]
    assert not raw.hash(keyspace.key("tranship:deliveries").decode())


async def test_what_cannot_go_back_is_tried_again(context: CaseContext, keyspace: KeySpace) -> None:
    """Its list is somebody else's string: kept where Celery would find it, and back when the key is gone."""
    backend = await context.open(lease=0.3)
    await context.submit(backend, context.message(id="a"))
    consumer = backend.consumer(["q"])
    await take(consumer, 1)
    keyspace.raw("SET", keyspace.list(), "x")
    score = time.time() + 1

    def put_off() -> bool:
        (token,) = keyspace.tokens()
        return float(keyspace.raw("ZSCORE", keyspace.key("tranship:leases"), token)) > score

    await eventually(put_off, "the sweep has tried")
    keyspace.all_true()
    keyspace.raw("DEL", keyspace.list())
    (again,) = await take(backend.consumer(["q"]), 1, within=15)
    assert counts([again]) == {"a": 2}


async def test_celerys_flag_counts_when_a_lease_ends(context: CaseContext, keyspace: KeySpace) -> None:
    backend, other = await context.open(lease=0.4), await context.open(lease=60)
    whole = keyspace.kombu("a")
    whole["headers"]["redelivered"] = True
    keyspace.push(whole)
    assert counts(await take(backend.consumer(["q"]), 1)) == {"a": 2}
    assert counts(await take(other.consumer(["q"]), 1)) == {"a": 3}


async def test_an_idle_sweeper_leaves_the_server_alone(context: CaseContext, keyspace: KeySpace) -> None:
    """It looks four times per lease, or when one ends."""
    async with opened(context.url(), namespace=context.namespace, lease=1.0, celery="off") as ctx:
        calls = []
        channel = ctx.kit.connection.main
        sweeper = Sweeper(ctx.broker, channel, lambda: None)
        run = channel.run
        channel.run = lambda *args: calls.append(1) or run(*args)  # type: ignore[method-assign]
        sweeper.start()
        await asyncio.sleep(1.0)
        await sweeper.aclose()
        await sweeper.aclose()
    assert 3 <= len(calls) <= 8


async def test_sweeping_outlives_errors(
    context: CaseContext, keyspace: KeySpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await context.open(lease=0.4)
    await context.submit(backend, context.message(id="a"))
    consumer = backend.consumer(["q"])
    keyspace.raw("SET", keyspace.key("tranship:deliveries"), "x")
    await consumer.receive(1, 0.0, skip={"q"})
    await asyncio.sleep(0.3)
    keyspace.raw("DEL", keyspace.key("tranship:deliveries"))
    await take(consumer, 1)
    assert counts(await take(backend.consumer(["q"]), 1)) == {"a": 2}


# --- Celery's -------------------------------------------------------------------------------------

FIXED = "7d1f4a52-5c3c-4c53-9d7b-0f8a2b1c3d4e"


def hold_as_celery(
    keyspace: KeySpace, whole: Any, *, tag: str, ago: float, exchange: str = "", queue: str = "q"
) -> None:
    """What a Celery worker leaves behind when it dies."""
    value = whole if isinstance(whole, str) else json.dumps([whole, exchange, queue])
    keyspace.raw("HSET", keyspace.key("unacked"), tag, value)
    keyspace.raw("ZADD", keyspace.key("unacked_index"), str(time.time() - ago), tag)


async def restore(context: CaseContext, **options: Any) -> int:
    async with opened(context.url(), namespace=context.namespace, **options) as ctx:
        return await CeleryEntries(ctx.keys, ctx.main, ctx.options).restore()


async def test_celerys_messages_are_restored_as_kombu_does_it(
    context: CaseContext, keyspace: KeySpace, redis_service: Any
) -> None:
    """The very same bytes in the very same list."""
    wholes = []
    for priority in (None, 0, 4, 5, 9, 12, "x"):
        whole = keyspace.kombu(f"p-{priority}", tag=f"{FIXED}-{priority}")
        whole["properties"]["priority"] = priority
        if priority is None:
            del whole["properties"]["priority"]
        whole["headers"]["odd"] = ["é", 2**70, 1e300, [], {"__type__": "uuid", "__value__": {"hex": "00" * 16}}]
        wholes.append(whole)
    lists = [f"q{step}" for step in ("", "\x06\x163", "\x06\x166", "\x06\x169")]

    def fill() -> None:
        for number, whole in enumerate(wholes):
            hold_as_celery(keyspace, whole, tag=whole["properties"]["delivery_tag"], ago=5000 - number)

    def found() -> dict[str, list[bytes]]:
        return {name: keyspace.raw("LRANGE", keyspace.key(name), "0", "-1") for name in lists}

    fill()
    assert await restore(context) == len(wholes)
    ours = found()
    keyspace.nothing_held()
    for name in lists:
        keyspace.raw("DEL", keyspace.key(name))
    fill()
    options = {"global_keyprefix": f"{context.namespace}:"}
    with Connection(redis_service.url, transport_options=options) as connection:
        channel = connection.channel()
        channel.qos.restore_visible(num=None)
    theirs = found()
    for name in lists:
        assert [json.loads(one) for one in ours[name]] == [json.loads(one) for one in theirs[name]], name
        assert sorted(ours[name]) == sorted(theirs[name])


async def test_nothing_is_restored_before_its_time(context: CaseContext, keyspace: KeySpace) -> None:
    hold_as_celery(keyspace, keyspace.kombu("young"), tag="young", ago=90)
    hold_as_celery(keyspace, keyspace.kombu("old"), tag="old", ago=110)
    assert await restore(context, visibility_timeout=100.0) == 1
    assert list(keyspace.unacked()) == [b"young"]
    assert await restore(context) == 0


async def test_our_own_claims_are_not_celerys(context: CaseContext, keyspace: KeySpace) -> None:
    """However old Celery's index says they are: they have a lease."""
    backend = await context.open(lease=60)
    await context.submit(backend, context.message(id="a"))
    keyspace.push(keyspace.kombu("b", tag="with \0 zero"))
    consumer = backend.consumer(["q"])
    held = await take(consumer, 2)
    for tag in keyspace.index():
        keyspace.raw("ZADD", keyspace.key("unacked_index"), "1", tag)
    assert await restore(context) == 0
    assert await settle(consumer, Verdict.ACK, *held)


async def test_a_sweep_of_somebody_else_goes_first(context: CaseContext, keyspace: KeySpace) -> None:
    hold_as_celery(keyspace, keyspace.kombu("a"), tag="a", ago=5000)
    keyspace.raw("SET", keyspace.key("unacked_mutex"), "theirs")
    assert await restore(context) == 0
    assert keyspace.raw("GET", keyspace.key("unacked_mutex")) == b"theirs"
    keyspace.raw("DEL", keyspace.key("unacked_mutex"))
    assert await restore(context) == 1
    assert keyspace.raw("EXISTS", keyspace.key("unacked_mutex")) == 0


@pytest.mark.parametrize(
    "value", ["rubbish", "[]", '[{}, "named", "q"]', '["text", "", "q"]', '[{}, "", 5]', "[" * 3000]
)
async def test_what_only_celery_can_place_is_left_to_it(context: CaseContext, keyspace: KeySpace, value: str) -> None:
    """Named exchanges follow Celery's bindings; rubbish is nobody's."""
    hold_as_celery(keyspace, value, tag="odd", ago=5000)
    hold_as_celery(keyspace, keyspace.kombu("a"), tag="a", ago=4000)
    assert await restore(context) == 1
    assert keyspace.unacked() == {b"odd": value.encode()}


async def test_an_entry_without_message_is_removed(context: CaseContext, keyspace: KeySpace) -> None:
    keyspace.raw("ZADD", keyspace.key("unacked_index"), "1", "nobody")
    assert await restore(context) == 0
    assert keyspace.index() == []


async def test_a_restored_message_that_is_in_other_hands_stays_there(context: CaseContext, keyspace: KeySpace) -> None:
    """Between our look and our step another sweep restored it and another worker took it."""
    hold_as_celery(keyspace, keyspace.kombu("a"), tag="a", ago=10)
    async with opened(context.url(), namespace=context.namespace) as ctx:
        names = [ctx.keys.unacked, ctx.keys.unacked_index, keyspace.list()]
        assert await ctx.main.run(Script("restore"), names, ["a", time.time() - 3600, "{}"]) == 0
    assert (list(keyspace.unacked()), keyspace.elements()) == ([b"a"], [])


async def test_a_worker_restores_what_dead_celery_workers_held(context: CaseContext, keyspace: KeySpace) -> None:
    """By itself, and once; it counts as delivered before."""
    hold_as_celery(keyspace, keyspace.kombu("a", priority=Priority.LOW), tag="a", ago=10)
    backend = await context.open(lease=60, visibility_timeout=5)
    held = await take(backend.consumer(["q"]), 1)
    assert counts(held) == {"a": 2}
    assert len(keyspace.unacked()) == 1


async def test_without_celery_nobody_looks(context: CaseContext, keyspace: KeySpace) -> None:
    hold_as_celery(keyspace, keyspace.kombu("a"), tag="a", ago=10)
    backend = await context.open(lease=60, visibility_timeout=5, celery="off")
    assert ids_of((await backend.consumer(["q"]).receive(1, 0.3)).deliveries) == []
    assert len(keyspace.unacked()) == 1


def test_the_pause_between_two_looks_is_kombus() -> None:
    options = SimpleNamespace(interval=10.0, throttle=10)
    assert options.interval * options.throttle == _sweeper.CELERY


async def test_one_that_cannot_be_restored_does_not_hold_up_the_others(
    context: CaseContext, keyspace: KeySpace
) -> None:
    hold_as_celery(keyspace, keyspace.kombu("a"), tag="a", ago=4000)
    hold_as_celery(keyspace, keyspace.kombu("b"), tag="b", ago=5000, queue="bad")
    keyspace.raw("SET", keyspace.key("bad\x06\x163"), "somebody else's")
    assert await restore(context) == 1
    assert list(keyspace.unacked()) == [b"b"]
