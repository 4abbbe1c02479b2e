"""The inspector on Redis: numbers that are true, and dead letters that come back complete or not at all."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis_context import bury, opened, shut

from tranship.codec import JSON, MSGPACK
from tranship.driver import Outgoing
from tranship.envelope import Envelope, Priority
from tranship.errors import BrokerRefused, ClosedError, MalformedMessage, StorageFull
from tranship.ports import QueueInfo
from tranship.protocol import Encoder, decode
from tranship.testing.services import Service
from tranship_redis._context import Context
from tranship_redis._element import Elements, read

GOLDEN_PROTOCOL1 = {"task": "peers.add", "id": "p1", "args": [1], "kwargs": {}, "retries": 3, "eta": None}


@pytest.fixture(params=[3, 2])
async def context(redis_service: Service, request: pytest.FixtureRequest) -> AsyncIterator[Context]:
    async with opened(redis_service.url, namespace=uuid.uuid4().hex, protocol=request.param) as made:
        yield made


def element(context: Context, task_id: str = "t-1", **fields: Any) -> bytes:
    timestamp = str(fields.pop("timestamp", 1790000000.5)).encode()
    tag = fields.pop("tag", "tag-1").encode()
    envelope = Envelope(**{"id": task_id, "task": "peers.add", "args": [1, 2], "queue": "q", **fields})
    return Elements(context.keys, context.levels).build(
        Outgoing.of(Encoder("gen1@h").encode(envelope)), tag=tag, timestamp=timestamp
    )


async def bury_some(context: Context, *queues: str) -> list[str]:
    return [
        await bury(context, element(context, f"t-{number}", queue=queue), queue=queue)
        for number, queue in enumerate(queues)
    ]


async def queued(context: Context, queue: str = "q", step: int = 3) -> list[dict[str, Any]]:
    return [json.loads(raw) for raw in await context.main.call("LRANGE", context.keys.list(queue, step), 0, -1)]


# --- numbers --------------------------------------------------------------------------------------


async def test_queues(context: Context) -> None:
    inspector, call, keys = context.kit.inspector, context.main.call, context.keys
    assert list(await inspector.queues()) == []
    await call("SADD", keys.queues, "q", "p", "empty")
    now = time.time()
    for priority in (Priority.NORMAL, Priority.NORMAL, Priority.LOW, Priority.HIGH):
        await call("LPUSH", context.levels.key("q", priority), element(context, timestamp=now - 60))
    await call("LPUSH", context.levels.key("q", Priority.VERY_LOW), element(context, timestamp=now - 90))
    await call("ZADD", keys.delayed("q"), now + 60, "t-8", now + 61, "t-9")
    token = b"%b\0tag\0claim-%d"
    for number, key in enumerate((keys.list("q", 0), keys.list("q", 9), keys.list("r", 6))):
        await call("ZADD", keys.leases, now + 30, token % (key, number))
    await bury_some(context, "p", "s", "p")
    infos = {info.name: info for info in await inspector.queues()}
    assert list(infos) == ["p", "q", "r", "s"]
    ready = {Priority.HIGH: 1, Priority.NORMAL: 2, Priority.LOW: 1, Priority.VERY_LOW: 1}
    assert infos["q"].ready == ready
    assert (infos["q"].delayed, infos["q"].in_flight, infos["q"].dead) == (2, 2, 0)
    assert infos["q"].oldest_age is not None
    assert 89 < infos["q"].oldest_age < 100
    assert infos["p"] == QueueInfo(name="p", ready={}, delayed=0, in_flight=0, oldest_age=0.0, dead=2)
    assert (infos["r"].in_flight, infos["s"].dead) == (1, 1)


async def test_a_level_may_have_two_lists(redis_service: Service) -> None:
    async with opened(redis_service.url, namespace=uuid.uuid4().hex, normal_step=0) as context:
        await context.main.call("SADD", context.keys.queues, "q")
        for step in (0, 0, 3):
            await context.main.call("LPUSH", context.keys.list("q", step), element(context))
        (info,) = await context.kit.inspector.queues()
        assert info.ready == {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 0, Priority.VERY_LOW: 0}


@pytest.mark.parametrize(
    ("heads", "age"),
    [
        (["{}"], None),
        (["nonsense"], None),
        (['{"properties": {"timestamp": "soon"}}'], None),
        (['{"headers": {"timestamp": 5}, "properties": {}}'], None),
        (["{}", "old"], 100),
        (["huge"], 100),
        (["huge-celery"], None),
        (["ahead"], 0),
    ],
)
async def test_the_oldest(context: Context, heads: list[str], age: float | None) -> None:
    now = time.time()
    body = "x" * 100_000
    known = {
        "old": element(context, timestamp=now - 100),
        "ahead": element(context, timestamp=now + 100),
        "huge": element(context, timestamp=now - 100, args=[body]),
        "huge-celery": json.dumps({"body": body, "headers": {"timestamp": 5}, "properties": {"priority": 0}}).encode(),
    }
    await context.main.call("SADD", context.keys.queues, "q")
    for step, head in zip((0, 3), heads, strict=False):
        await context.main.call("RPUSH", context.keys.list("q", step), element(context), known.get(head, head.encode()))
    (info,) = await context.kit.inspector.queues()
    assert info.oldest_age is age if age is None else info.oldest_age == pytest.approx(age, abs=5)


async def test_foreign_keys_under_our_names_count_nothing(context: Context) -> None:
    call, keys = context.main.call, context.keys
    await call("SADD", keys.queues, "q", b"\xff", "p")
    await call("SET", keys.list("q", 0), "mine")
    await call("SET", keys.delayed("q"), "mine")
    await call("LPUSH", keys.list("p", 0), "x")
    await call("ZADD", keys.leases, 1, "no token of ours")
    names = [info.name for info in await context.kit.inspector.queues()]
    assert "p" in names
    assert "q" not in names


async def test_dead_letters_are_counted_once(context: Context) -> None:
    inspector = context.kit.inspector

    async def counts() -> dict[str, int | None]:
        return {info.name: info.dead for info in await inspector.queues() if info.dead}

    ids = await bury_some(context, "q", "p", "q", "q")
    assert await counts() == {"p": 1, "q": 3}
    assert await counts() == {"p": 1, "q": 3}
    ids += await bury_some(context, "r")
    assert await counts() == {"p": 1, "q": 3, "r": 1}
    await inspector.dead_purge([ids[0]])
    assert await counts() == {"p": 1, "q": 2, "r": 1}
    await inspector.dead_purge([ids[-1]])
    await bury_some(context, "p")
    assert await counts() == {"p": 2, "q": 2}
    await inspector.dead_purge()
    assert await counts() == {}
    await bury_some(context, "r", "r")
    assert await counts() == {"r": 2}


async def test_many_dead_letters(context: Context) -> None:
    """More than a script looks at, or a command brings, at once."""
    for n in range(2505):
        await bury(context, element(context, f"t-{n}"), queue="q" if n % 250 else "p")
    inspector = context.kit.inspector
    assert {info.name: info.dead for info in await inspector.queues()} == {"p": 11, "q": 2494}
    assert len(await inspector.dead(limit=100_000)) == 2505
    assert [letter.task_id for letter in await inspector.dead("p")] == [f"t-{n}" for n in range(0, 2505, 250)]
    assert len(await inspector.dead("p", limit=3)) == 3
    assert len(await inspector.dead("q", limit=350)) == 350
    assert await inspector.dead_purge(queue="q") == 2494
    assert {info.name: info.dead for info in await inspector.queues()} == {"p": 11}
    assert len(await inspector.dead_get([f"t-{n}" for n in range(2505)])) == 11
    assert await inspector.dead_purge(queue="q") == 0


# --- list and show --------------------------------------------------------------------------------


async def test_a_letter_says_everything(context: Context) -> None:
    raw = element(context, content_type=MSGPACK, priority=Priority.LOW)
    letter_id = await bury(context, raw, step=6, died=1790000000.123, reason="delivery-limit", detail="3 times")
    (letter,) = await context.kit.inspector.dead("q")
    assert (letter.id, letter.task_id, letter.task) == (letter_id, "t-1", "peers.add")
    assert (letter.queue, letter.priority, letter.deliveries) == ("q", Priority.LOW, 2)
    assert (letter.reason, letter.detail, letter.died_at) == ("delivery-limit", "3 times", 1790000000.123)
    assert (letter.headers["id"], letter.content_type) == ("t-1", MSGPACK)
    assert letter.body == read(raw).body


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"nonsense", b"[]", b"{}", b'{"headers": [], "body": 7}', b'{"body": "text"}']
)
async def test_what_cannot_be_read_is_shown_all_the_same(context: Context, raw: bytes) -> None:
    letter_id = await bury(context, raw)
    (letter,) = await context.kit.inspector.dead_get([letter_id])
    assert (letter.task_id, letter.task, dict(letter.headers), letter.content_type) == (None, None, {}, "")


async def test_a_foreign_row_hides_no_letter(context: Context) -> None:
    for name, value in (("d/a", b"mine"), ("d/b", b"1\n[]"), ("d/c", b"1\n[1,2,3,4]\nx")):
        await context.main.call("SET", context.keys.row(name), value)
        await context.main.call("ZADD", context.keys.letter_names, 0, name)
    ids = await bury_some(context, "q")
    assert [one.id for one in await context.kit.inspector.dead()] == ids
    assert await context.kit.inspector.dead_purge() == 1


async def test_pages(context: Context) -> None:
    ids = await bury_some(context, "q", "p", "q", "q", "p")
    inspector = context.kit.inspector
    assert [one.id for one in await inspector.dead(limit=2)] == ids[:2]
    assert [one.id for one in await inspector.dead(limit=2, after=ids[1])] == ids[2:4]
    assert [one.id for one in await inspector.dead("q", limit=2, after=ids[0])] == ids[2:4]
    assert [one.id for one in await inspector.dead("q", limit=1)] == ids[:1]
    assert await inspector.dead_purge([ids[1]]) == 1
    assert [one.id for one in await inspector.dead(after=ids[1])] == ids[2:], "behind one that has gone"
    for nothing in (inspector.dead(after=ids[4]), inspector.dead("none"), inspector.dead(limit=0)):
        assert list(await nothing) == []


@pytest.mark.parametrize("after", ["x", "-1", "1", "+", "\ud800", "ü"])
async def test_an_id_that_cannot_be(context: Context, after: str) -> None:
    inspector = context.kit.inspector
    assert list(await inspector.dead(after=after)) == []
    assert list(await inspector.dead_get([after])) == []
    assert list(await inspector.dead_replay([after])) == []
    assert await inspector.dead_purge([after]) == 0


@pytest.mark.parametrize("count", [1, 9, 10, 11, 20, 33])
async def test_each_once_however_the_scan_is_cut(context: Context, count: int) -> None:
    ids = await bury_some(context, *(["q", "p"] * count)[:count])
    inspector = context.kit.inspector
    assert [one.id for one in await inspector.dead()] == ids
    for limit in (1, 3, 10):
        for queue in (None, "q"):
            found: list[str] = []
            while page := await inspector.dead(queue, limit=limit, after=found[-1] if found else ""):
                found += [one.id for one in page]
            assert found == (ids if queue is None else ids[::2])
    assert sum(info.dead or 0 for info in await inspector.queues()) == count
    assert await inspector.dead_purge(queue="q") == len(ids[::2])


async def test_letters_are_found_by_either_id_in_order_of_death(context: Context) -> None:
    ids = await bury_some(context, "q", "q", "q")
    inspector = context.kit.inspector
    found = await inspector.dead_get([ids[2], "t-0", "unknown", "t-2", ids[2], "9-9"])
    assert [one.id for one in found] == [ids[0], ids[2]]
    assert list(await inspector.dead_get([])) == []


async def test_a_tasks_id_stands_for_all_its_deaths(context: Context) -> None:
    first = await bury(context, element(context))
    second = await bury(context, element(context))
    inspector = context.kit.inspector
    assert [one.id for one in await inspector.dead_get(["t-1"])] == [first, second]
    assert await inspector.dead_purge([first]) == 1
    assert [one.id for one in await inspector.dead_get(["t-1"])] == [second]
    assert await inspector.dead_purge(["t-1"]) == 1
    assert await context.main.call("EXISTS", context.keys.letter_names) == 0


async def test_a_name_without_a_letter_is_taken_out(context: Context) -> None:
    ids = await bury_some(context, "q", "q", "q")
    await context.main.call("DEL", context.keys.row(f"d/{ids[1]}"))
    assert [one.id for one in await context.kit.inspector.dead()] == [ids[0], ids[2]]
    assert await context.main.call("ZCARD", context.keys.letter_names) == 2


# --- replay ---------------------------------------------------------------------------------------


async def test_replayed_as_new(context: Context) -> None:
    call, keys = context.main.call, context.keys
    tired = element(context, attempt=3, not_before=time.time() - 5, cancel_key="k", reply_to="r-1")
    outer = json.loads(tired)
    outer["headers"]["redelivered"] = outer["properties"]["delivery_info"]["redelivered"] = True
    letter_id = await bury(context, json.dumps(outer).encode())
    await call("SET", keys.result("t-1"), '{"status": "FAILURE"}')
    assert list(await context.kit.inspector.dead_replay([letter_id, "unknown", "t-1"])) == [letter_id, "t-1"]
    (again,) = await queued(context)
    assert again["headers"]["retries"] == 0
    assert again["headers"]["eta"] is None
    assert "redelivered" not in json.dumps(again)
    properties = again["properties"]
    assert properties["delivery_tag"] not in ("", "tag-1")
    assert properties["delivery_info"] == {"exchange": "", "routing_key": "q"}
    assert (properties["correlation_id"], properties["reply_to"], properties["priority"]) == ("t-1", "r-1", 3)
    assert properties["timestamp"] == pytest.approx(time.time(), abs=5)
    assert again["body"] == outer["body"]
    (raw,) = await call("LRANGE", keys.list("q", 3), 0, -1)
    envelope = decode(read(raw), queue="q", priority=Priority.NORMAL)
    assert (envelope.attempt, envelope.not_before, envelope.cancel_key, envelope.reply_to) == (0, None, "k", "r-1")
    assert await call("EXISTS", keys.result("t-1"), keys.letter_names, keys.row(f"d/{letter_id}")) == 0
    assert await call("SMEMBERS", keys.queues) in ([b"q"], {b"q"})


async def test_replay_keeps_queue_and_level(context: Context) -> None:
    first = await bury(context, element(context, queue="p", priority=Priority.VERY_LOW), queue="p", step=9)
    assert list(await context.kit.inspector.dead_replay([first])) == [first]
    (again,) = await queued(context, "p", 9)
    assert again["properties"]["priority"] == 9
    assert again["properties"]["delivery_info"]["routing_key"] == "p"


async def test_what_the_element_lacks_and_the_message_does_not_is_added(context: Context) -> None:
    """A foreign producer left out the properties: the message itself is complete."""
    headers = {"id": "t-1", "task": "peers.add"}
    raw = json.dumps({"body": "[[1], {}, null]", "headers": headers}).encode()
    letter_id = await bury(context, raw)
    assert list(await context.kit.inspector.dead_replay([letter_id])) == [letter_id]
    (again,) = await queued(context)
    assert (again["content-type"], again["content-encoding"]) == (JSON, "utf-8")
    assert json.loads(base64.b64decode(again["body"])) == [[1], {}, None]
    assert again["properties"]["delivery_tag"]
    assert again["headers"] == headers


async def test_protocol_1_is_replayed(context: Context) -> None:
    body = base64.b64encode(json.dumps(GOLDEN_PROTOCOL1).encode()).decode()
    raw = {"body": body, "content-type": JSON, "headers": {}, "properties": {"body_encoding": "base64"}}
    letter_id = await bury(context, json.dumps(raw).encode())
    assert list(await context.kit.inspector.dead_replay([letter_id])) == [letter_id]
    (again,) = await queued(context)
    assert (again["body"], again["headers"], again["properties"]["correlation_id"]) == (body, {}, "p1")


INCOMPLETE = [
    b"",
    b"nonsense",
    b"[]",
    b"{}",
    b'{"body": "[[], {}, {}]", "headers": {"task": "x"}}',
    b'{"body": "[[], {}, {}]", "headers": {"id": "x"}}',
    b'{"body": "[[], {}]", "headers": {"id": "x", "task": "x"}}',
    b'{"body": "{}", "headers": {"id": "x", "task": "x"}}',
    b'{"body": "[[], {}, {}]", "headers": {"id": "x", "task": "x"}, "content-type": "application/x-yaml"}',
    b'{"body": {"a": 1}, "headers": {"id": "x", "task": "x"}}',
]


@pytest.mark.parametrize("raw", INCOMPLETE)
async def test_an_incomplete_message_is_never_queued(context: Context, raw: bytes) -> None:
    letter_id = await bury(context, raw)
    inspector = context.kit.inspector
    with pytest.raises(MalformedMessage, match=letter_id) as caught:
        await inspector.dead_replay([letter_id])
    assert "purge" in str(caught.value)
    assert [one.id for one in await inspector.dead()] == [letter_id]
    assert await context.main.call("KEYS", f"{context.options.namespace}:q*") == []


async def test_the_others_are_queued_all_the_same(context: Context) -> None:
    good = await bury(context, element(context, "t-1"))
    bad = [await bury(context, b"{}") for _ in range(5)]
    last = await bury(context, element(context, "t-2"))
    with pytest.raises(MalformedMessage, match="2 more"):
        await context.kit.inspector.dead_replay([good, *bad, last])
    assert [one["headers"]["id"] for one in await queued(context)] == ["t-2", "t-1"]
    assert [one.id for one in await context.kit.inspector.dead()] == bad


async def test_two_who_replay_and_one_who_purges_lose_nothing(context: Context) -> None:
    """Who replays sends before he deletes: of two at the same moment both may."""
    ids = await bury_some(context, *["q"] * 20)
    one, two = context.kit.inspector, context.kit.inspector
    await asyncio.gather(one.dead_replay(ids), two.dead_replay(ids[::-1]), one.dead_purge(ids[:5]))
    assert {name["headers"]["id"] for name in await queued(context)} >= {f"t-{n}" for n in range(5, 20)}
    assert list(await one.dead()) == []


async def test_many_are_replayed_in_their_order(context: Context) -> None:
    ids = await bury_some(context, *["q"] * 250)
    assert list(await context.kit.inspector.dead_replay(ids)) == ids
    assert [one["headers"]["id"] for one in await queued(context)] == [f"t-{n}" for n in reversed(range(250))]


async def test_nothing_is_lost_when_the_server_refuses(context: Context) -> None:
    letter_id = await bury(context, element(context))
    inspector, call = context.kit.inspector, context.main.call
    await call("SET", context.keys.list("q", 3), "mine")
    with pytest.raises(BrokerRefused, match="submitting to queue 'q'"):
        await inspector.dead_replay([letter_id])
    await call("DEL", context.keys.list("q", 3))
    await call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StorageFull):
            await inspector.dead_replay([letter_id])
    finally:
        await call("CONFIG", "SET", "maxmemory", "0")
    assert [one.id for one in await inspector.dead_get(["t-1"])] == [letter_id]
    assert await queued(context) == []


async def test_after_close(context: Context) -> None:
    inspector = context.kit.inspector
    shut(context)
    for refused in (
        inspector.queues(),
        inspector.workers(),
        inspector.dead(),
        inspector.dead_get([]),
        inspector.dead_replay([]),
        inspector.dead_purge(),
    ):
        with pytest.raises(ClosedError):
            await refused


# --- large ones -----------------------------------------------------------------------------------


async def test_long_letters_do_not_cut_the_connection(context: Context) -> None:
    """The server cuts a connection with subscriptions whose answers are too long, and Celery's messages know no limit."""
    context.pubsub.post(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nx\r\n", lambda _: None, pushes=1)
    body = base64.b64encode(b'[["' + b"x" * 3_000_000 + b'"], {}, {}]').decode()
    raw = json.dumps(
        {"body": body, "headers": {"id": "x", "task": "x"}, "properties": {"body_encoding": "base64"}}
    ).encode()
    ids = [await bury(context, raw) for _ in range(12)]
    huge = await bury(context, b"x" * 40_000_000, detail="as it was")
    inspector = context.kit.inspector
    letters = await inspector.dead()
    assert [one.id for one in letters] == [*ids, huge]
    assert (letters[-1].body, letters[-1].detail) == (b"", "as it was")
    assert [one.id for one in await inspector.dead_get([*ids, huge])] == [*ids, huge]
    assert list(await inspector.dead_replay(ids)) == ids
    with pytest.raises(MalformedMessage, match=huge):
        await inspector.dead_replay([huge])
    assert await inspector.dead_purge(queue="q") == 1
    assert context.main.generation == context.pubsub.generation == 1
