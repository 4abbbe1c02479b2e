"""The control channel on Redis: cancels with everything that hangs on them, the feed, heartbeats, the mailbox."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgpack
import pytest
from redis_context import eventually, make_driver, opened

from tranship.envelope import TaskState
from tranship.errors import BrokerRefused, BrokerUnreachable, BusyError, ClosedError, InvalidOptionError, StorageFull
from tranship.mailbox import node_name
from tranship.ports import Command, Heartbeat, RunningTask, Signal, Tombstone
from tranship.protocol import decode_result
from tranship.testing.services import Service
from tranship_redis._context import Context
from tranship_redis._control import RedisControl

SUCCESS = b'{"status": "SUCCESS", "result": 1, "task_id": "x"}'


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
async def context(redis_service: Service, namespace: str) -> AsyncIterator[Context]:
    async with opened(redis_service.url, namespace=namespace) as made:
        yield made


@pytest.fixture(params=[3, 2])
async def either(redis_service: Service, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[Context]:
    async with opened(redis_service.url, namespace=namespace, protocol=request.param) as made:
        yield made


class Sink:
    def __init__(self) -> None:
        self.signals: list[Signal] = []
        self.calls = 0

    def __call__(self, signals: Sequence[Signal]) -> None:
        self.calls += 1
        self.signals += signals

    def values(self) -> set[str]:
        return {one.value for one in self.signals if isinstance(one, Tombstone)}

    def names(self) -> list[str]:
        return [one.name for one in self.signals if isinstance(one, Command)]


def dead(value: str, *, kind: str = "id", seconds: float = 60.0, running: bool = True) -> Tombstone:
    return Tombstone(kind=kind, value=value, expires=time.time() + seconds, running=running)


async def listening(context: Context, worker: str = "w-1") -> tuple[RedisControl, Sink]:
    control, sink = RedisControl(context), Sink()
    await control.listen(sink, worker=worker)
    return control, sink


async def delay(context: Context, task_id: str, *, queue: str = "q", headers: dict[str, Any] | None = None) -> None:
    element = json.dumps({"body": "", "headers": {"id": task_id, **(headers or {})}, "properties": {}})
    keys, call = context.keys, context.main.call
    await call("ZADD", keys.delayed(queue), time.time() + 3600, task_id)
    await call("HSET", keys.delayed_messages(queue), task_id, "3" + element)
    await call("HSET", keys.delayed_queues, task_id, queue)


async def delayed_keys(context: Context, queue: str = "q") -> int:
    keys = (context.keys.delayed(queue), context.keys.delayed_messages(queue), context.keys.delayed_queues)
    return await context.main.call("EXISTS", *keys)


# --- cancel ---------------------------------------------------------------------------------------


async def test_a_delayed_task_is_removed_with_its_result(context: Context) -> None:
    control, call = RedisControl(context), context.main.call
    await delay(context, "t-1")
    await delay(context, "t-2")
    report = await control.cancel([dead("t-1"), dead("t-9"), dead("t-1", kind="key")])
    assert list(report.removed) == ["t-1"]
    found = decode_result(await call("GET", context.keys.result("t-1")))
    assert (found.id, found.state, found.attempt) == ("t-1", TaskState.CANCELLED, 0)
    assert 0 < await call("TTL", context.keys.result("t-1")) <= 86400
    assert await call("ZRANGE", context.keys.delayed("q"), 0, -1) == [b"t-2"]
    assert await call("HKEYS", context.keys.delayed_messages("q")) == [b"t-2"]
    assert await call("HKEYS", context.keys.delayed_queues) == [b"t-2"]
    assert list((await control.cancel([dead("t-1")])).removed) == [], "a second time there is nothing to remove"


async def test_the_result_of_a_removed_task_is_published(context: Context) -> None:
    heard: list[Any] = []
    context.pubsub.on_push(b"message", heard.append)
    context.pubsub.post(b"*2\r\n$9\r\nSUBSCRIBE\r\n" + _bulk(context.keys.result("t-1")), lambda _: None, pushes=1)
    await delay(context, "t-1")
    await RedisControl(context).cancel([dead("t-1")])
    frame = await eventually(lambda: heard and heard[0], "the result is published")
    assert decode_result(frame[2]).state is TaskState.CANCELLED


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
async def test_what_the_message_says_of_its_result_is_done(
    redis_service: Service, namespace: str, serializer: Any
) -> None:
    async with opened(redis_service.url, namespace=namespace, result_serializer=serializer) as context:
        await delay(context, "t-1", headers={"tranship-result-ttl": 50, "retries": 2})
        await delay(context, "t-2", headers={"ignore_result": True})
        await delay(context, "t-3", headers={"tranship-result-ttl": "soon", "retries": "x"})
        report = await RedisControl(context).cancel([dead("t-1"), dead("t-2"), dead("t-3")])
        assert sorted(report.removed) == ["t-1", "t-2", "t-3"]
        document = await context.main.call("GET", context.keys.result("t-1"))
        assert document.startswith(b"{") is (serializer == "json")
        assert decode_result(document).attempt == 2
        assert 40 < await context.main.call("TTL", context.keys.result("t-1")) <= 50
        assert await context.main.call("GET", context.keys.result("t-2")) is None
        assert await context.main.call("TTL", context.keys.result("t-3")) > 80_000


@pytest.mark.parametrize(
    ("stored", "stays"),
    [
        (SUCCESS, True),
        (b'{"status":"FAILURE","result":null}', True),
        (b'{"task_id": "x", "status": "REVOKED"}', True),
        (msgpack.packb({"status": "SUCCESS"}), True),
        (b'{"status": "RETRY", "result": null}', False),
        (b'{"status": "STARTED", "result": {"status": "SUCCESS"}}', False),
        (msgpack.packb({"status": "RETRY"}), False),
        (b"nonsense", False),
        (b"{nonsense", False),
    ],
)
async def test_the_first_terminal_result_stays(context: Context, stored: bytes, stays: bool) -> None:
    await delay(context, "t-1")
    await context.main.call("SET", context.keys.result("t-1"), stored)
    assert list((await RedisControl(context).cancel([dead("t-1")])).removed) == ["t-1"]
    assert (await context.main.call("GET", context.keys.result("t-1")) == stored) is stays


@pytest.mark.parametrize("element", [b"", b"3", b"3nonsense", b'3{"headers": 7}', b"3[]", None])
async def test_a_broken_delayed_message_is_removed_too(context: Context, element: bytes | None) -> None:
    await delay(context, "t-1")
    messages = context.keys.delayed_messages("q")
    await (context.main.call("HDEL", messages, "t-1") if element is None else _put(context, messages, element))
    assert list((await RedisControl(context).cancel([dead("t-1")])).removed) == ["t-1"]
    assert await delayed_keys(context) == 0


async def _put(context: Context, messages: bytes, element: bytes) -> None:
    await context.main.call("HSET", messages, "t-1", element)


async def test_tombstones_expire_and_the_longer_of_two_counts(context: Context) -> None:
    control = RedisControl(context)
    await control.cancel([dead("long", seconds=600), dead("gone", seconds=-1)])
    await control.cancel([dead("long", seconds=5)])
    (kept,) = await context.kit.control.kept()
    assert kept.value == "long"
    assert kept.expires > time.time() + 500
    _, sink = await listening(context)
    assert sink.values() == {"long"}


async def test_many_at_once(context: Context) -> None:
    control, sink = await listening(context)
    ids = [f"t-{number}" for number in range(2001)]
    for task_id in ids[::100]:
        await delay(context, task_id)
    report = await control.cancel([dead(task_id) for task_id in ids])
    assert sorted(report.removed) == sorted(ids[::100])
    await eventually(lambda: sink.values() == set(ids), "everyone is told of all")
    assert list((await control.cancel([])).removed) == []


@pytest.mark.parametrize(
    "bad",
    [
        Tombstone(kind="id", value="\ud800", expires=1.0),
        Tombstone(kind="key", value="x\udfff", expires=1.0),
    ],
)
async def test_a_tombstone_that_cannot_be_stored(context: Context, bad: Tombstone) -> None:
    with pytest.raises(InvalidOptionError):
        await RedisControl(context).cancel([dead("good"), bad])
    assert list(await context.kit.control.kept()) == [], "nothing was done"


async def test_other_programs_find_a_key(redis_service: Service, namespace: str) -> None:
    options = {"namespace": namespace, "cancel_template": f"{namespace}/{{key}}"}
    async with opened(redis_service.url, **options) as context:
        call, control = context.main.call, RedisControl(context)
        await call("SET", f"{namespace}/taken", "before", "EX", 9)
        await call("SADD", context.keys.queues, f"{namespace}/queue")
        await call("SADD", context.keys.binding(f"{namespace}/celerys"), "x")
        names = ["job-7", "taken", "queue", "celerys"]
        await control.cancel([*(dead(name, kind="key") for name in names), dead("job-8"), dead("late", seconds=-5)])
        assert 50 < await call("TTL", f"{namespace}/job-7") <= 61
        assert await call("GET", f"{namespace}/taken") == b"before"
        for name in ("queue", "celerys", "job-8", "late"):
            assert await call("EXISTS", f"{namespace}/{name}") == 0, name


async def test_a_cancel_key_is_not_in_the_way_of_a_queue_of_the_namespace(
    redis_service: Service, namespace: str
) -> None:
    async with opened(redis_service.url, namespace=namespace, cancel_template="{key}") as context:
        await context.main.call("SADD", context.keys.queues, "ours")
        await context.main.call("SADD", context.keys.binding("celerys"), "x")
        for queue in ("ours", "celerys"):
            await RedisControl(context).cancel([dead(f"{namespace}:{queue}", kind="key")])
            assert not await context.main.call("EXISTS", context.keys.list(queue, 0))


@pytest.mark.parametrize(
    "name", ["unacked", "unacked_index", "_kombu.binding.q", "tranship:rows:d", "celery", "q\x06\x163"]
)
async def test_a_cancel_key_is_never_in_the_way(redis_service: Service, name: str) -> None:
    async with opened(redis_service.url, cancel_template="{key}") as context:
        before = await context.main.call("EXISTS", name)
        await RedisControl(context).cancel([dead(name, kind="key", seconds=1)])
        assert await context.main.call("EXISTS", name) == before


async def test_a_full_server_refuses_before_anything_is_done(redis_service: Service, context: Context) -> None:
    await delay(context, "t-1")
    await context.main.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StorageFull):
            await RedisControl(context).cancel([dead("t-1")])
    finally:
        await context.main.call("CONFIG", "SET", "maxmemory", "0")
    assert await delayed_keys(context) == 3
    assert list(await context.kit.control.kept()) == []


async def test_a_name_in_use_is_said(context: Context) -> None:
    await context.main.call("LPUSH", context.keys.row("z/id/t-1"), "mine")
    await context.main.call("SET", context.keys.rows("z/"), "mine")
    with pytest.raises(BrokerRefused, match="rows:z"):
        await RedisControl(context).cancel([dead("t-2")])


# --- the feed -------------------------------------------------------------------------------------


async def test_the_feed_replays_then_follows(either: Context) -> None:
    control = RedisControl(either)
    await control.cancel([dead("a"), dead("b", kind="key", running=False)])
    sink = Sink()
    await control.listen(sink, worker="w-1")
    assert sink.calls == 1, "one replay, handed over before listen returns"
    assert {(one.kind, one.value, one.running) for one in sink.signals} == {("id", "a", True), ("key", "b", False)}
    await control.cancel([dead("c", running=False)])
    await control.send(Command(name="set", arguments={"n": 3}, destination=["w-1"]))
    await control.send(Command(name="other", destination=["w-2"]))
    await control.send(Command(name="all"))
    await eventually(lambda: sink.names() == ["set", "all"], "commands come")
    (tombstone,) = [one for one in sink.signals if isinstance(one, Tombstone) and one.value == "c"]
    assert not tombstone.running
    with pytest.raises(BusyError):
        await control.listen(sink, worker="w-1")


async def test_nothing_is_said_twice_by_our_own_revokes(context: Context) -> None:
    control, sink = await listening(context)
    await control.cancel([dead("a")])
    await control.send(Command(name="end"))
    await eventually(lambda: sink.names() == ["end"], "the feed follows")
    assert [one.running for one in sink.signals if isinstance(one, Tombstone)] == [True]
    assert [one.value for one in await context.kit.control.kept()] == ["a"]


async def test_the_replay_comes_again_after_a_lost_connection(either: Context, redis_service: Service) -> None:
    control, sink = await listening(either)
    async with opened(redis_service.url, namespace=either.options.namespace) as other:
        await _drop_all(either, other)
        await RedisControl(other).cancel([dead("meanwhile")])
        await eventually(lambda: "meanwhile" in sink.values(), "the replay comes again")

        async def told() -> bool:
            await RedisControl(other).send(Command(name="live"))
            return "live" in sink.names()

        await eventually(told, "commands come again")
    assert control is not None


async def _drop_all(context: Context, other: Context) -> None:
    """Cut every connection of ``context``, as a server that restarts does."""
    links = {context.main, context.pubsub}
    generations = {link: link.generation for link in links}
    mine = await other.main.call("CLIENT", "ID")
    for line in (await other.main.call("CLIENT", "LIST")).decode().splitlines():
        client = dict(part.partition("=")[::2] for part in line.split())
        if int(client["id"]) != mine:
            await other.main.call("CLIENT", "KILL", "ID", client["id"])
    await eventually(lambda: all(link.generation > generations[link] for link in links), "it connects again")


async def test_a_hundred_thousand_tombstones(context: Context) -> None:
    for start in range(0, 100_000, 10_000):
        await context.kit.control.keep([dead(f"{'x' * 300}-{start + number}") for number in range(10_000)])
    _, sink = await listening(context)
    assert len(sink.values()) == 100_000
    assert (sink.calls, context.pubsub.generation) == (1, 1)


async def test_garbage_harms_nobody(context: Context) -> None:
    _, sink = await listening(context)
    for payload in (
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"7",
        b'["id"]',
        b'["id", 7, 1, true]',
        b'["id", "x", "soon", true]',
        b'["x", {}, 7, "mark"]',
    ):
        for channel in (context.keys.channel("z"), context.keys.channel("c"), context.keys.pidbox):
            await context.main.call("PUBLISH", channel, payload)
    for name, value in (("z/id/a", b"nonsense"), ("z/id/b", b"1\n[]"), ("z/id/c", b"x\n[]")):
        await context.main.call("SET", context.keys.row(name), value)
        await context.main.call("ZADD", context.keys.rows("z/"), 0, name)
    await RedisControl(context).send(Command(name="end"))
    await eventually(lambda: sink.names() == ["end"], "the feed goes on")
    assert sink.values() == set()
    async with opened(context.url, namespace=context.options.namespace) as again:
        _, later = await listening(again)
        assert later.signals == []


async def test_a_sink_that_fails_is_called_again(context: Context) -> None:
    heard: list[Any] = []

    def sink(signals: Sequence[Signal]) -> None:
        heard.append(signals)
        raise RuntimeError("mine")

    control = RedisControl(context)
    await control.listen(sink, worker="w-1")
    await control.send(Command(name="one"))
    await control.send(Command(name="two"))
    await eventually(lambda: len(heard) == 2, "both come")


async def test_after_close_nobody_is_called(context: Context, redis_service: Service, namespace: str) -> None:
    backend = make_driver(redis_service.url, namespace=namespace).backend
    await backend.open()
    control, sink = backend.control(), Sink()
    await control.listen(sink, worker="w-1")
    await backend.aclose()
    await RedisControl(context).send(Command(name="x"))
    await say(context, revoke("t-1"))
    await context.main.call("PING")
    assert sink.signals == []
    for refused in (
        control.listen(sink, worker="w-1"),
        control.cancel([]),
        control.send(Command(name="x")),
        control.beat(beat("w-1")),
    ):
        with pytest.raises(ClosedError):
            await refused


async def test_listening_fails_and_can_be_tried_again(context: Context) -> None:
    control, sink = RedisControl(context), Sink()
    await context.main.call("SET", context.keys.rows("z/"), "mine")
    with pytest.raises(BrokerRefused):
        await control.listen(sink, worker="w-1")
    await context.main.call("DEL", context.keys.rows("z/"))
    await control.listen(sink, worker="w-1")
    await control.send(Command(name="x"))
    await eventually(lambda: sink.names() == ["x"], "once, although it was tried twice")


async def test_a_cancelled_listen_does_not_listen(context: Context) -> None:
    control, sink = RedisControl(context), Sink()
    task = asyncio.create_task(control.listen(sink, worker="w-1"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await control.send(Command(name="x"))
    await control.listen(sink, worker="w-1")
    await control.send(Command(name="y"))
    await eventually(lambda: sink.names() == ["y"], "only what came after it listened")


async def test_a_cut_connection_is_said(context: Context) -> None:
    control = RedisControl(context)
    mine = await context.main.call("CLIENT", "ID")
    cut = context.main.call("CLIENT", "KILL", "ID", mine, "SKIPME", "no")
    _, cancelled = await asyncio.gather(cut, control.cancel([dead("t-1")]), return_exceptions=True)
    assert isinstance(cancelled, BrokerUnreachable)
    with pytest.raises(BrokerUnreachable):
        await control.cancel([dead("t-1")])


# --- rights ---------------------------------------------------------------------------------------


async def _user(context: Context, name: str, *rules: str) -> str:
    await context.main.call("ACL", "SETUSER", name, "reset", "resetchannels", "on", ">secret", "+@all", "~*", *rules)
    return context.url.replace("redis://", f"redis://{name}:secret@")


async def test_no_right_to_celerys_channel(context: Context) -> None:
    """Our own signals work; the cancel too."""
    namespace = context.options.namespace
    url = await _user(context, "narrow", f"&{namespace}:/0.tranship.*", f"&{namespace}:celery-task-meta-*")
    async with opened(url, namespace=namespace) as narrow:
        control, sink = await listening(narrow)
        await delay(context, "t-1")
        assert list((await control.cancel([dead("t-1")])).removed) == ["t-1"]
        await eventually(lambda: sink.values() == {"t-1"}, "our own signal comes")
    async with opened(url, namespace=namespace, celery="on") as narrow:
        with pytest.raises(BrokerRefused, match=r"celery\.pidbox"):
            await RedisControl(narrow).listen(Sink(), worker="w-1")


async def test_no_right_to_our_channel(context: Context) -> None:
    namespace = context.options.namespace
    url = await _user(context, "deaf", f"&{namespace}:/0.celery.pidbox")
    async with opened(url, namespace=namespace) as deaf:
        with pytest.raises(BrokerRefused, match=r"tranship\."):
            await RedisControl(deaf).listen(Sink(), worker="w-1")
        with pytest.raises(BrokerRefused, match="channel"):
            await RedisControl(deaf).cancel([dead("t-1")])


# --- heartbeats -----------------------------------------------------------------------------------


def beat(worker: str, **fields: Any) -> Heartbeat:
    given = {"host": "here", "pid": 1, "queues": ("q",), "running": (), "limit": 10, "at": 12.5, **fields}
    return Heartbeat(worker=worker, **given)


async def test_workers_are_known_until_they_stop(either: Context) -> None:
    control, inspector = RedisControl(either), either.kit.inspector
    await control.beat(beat("w-2"))
    await control.beat(beat("w-1", limit=3))
    await control.beat(beat("w-2", running=[RunningTask(id="a"), RunningTask(id="b")]))
    first, second = await inspector.workers()
    assert (first.worker, first.limit, first.at, first.stopping) == ("w-1", 3, 12.5, False)
    assert [one.id for one in second.running] == ["a", "b"]
    await control.beat(beat("w-1", stopping=True))
    assert [one.worker for one in await inspector.workers()] == ["w-2"]


async def test_silent_workers_are_forgotten(context: Context) -> None:
    """Their rows go by themselves, their names by other workers' beats: nobody has to look at them."""
    control, names = RedisControl(context), context.keys.rows("b/")
    for number in range(20):
        await control.beat(beat(f"old-{number}"))
        assert 50 < await context.main.call("TTL", context.keys.row(f"b/old-{number}")) <= 60
        await context.main.call("DEL", context.keys.row(f"b/old-{number}"))

    async def swept() -> bool:
        await control.beat(beat("w-1"))
        return await context.main.call("ZRANGE", names, 0, -1) == [b"b/w-1"]

    await eventually(swept, "beats of others sweep")
    assert [one.worker for one in await context.kit.inspector.workers()] == ["w-1"]


# --- Celery's remote control ----------------------------------------------------------------------------------


def revoke(ids: Any, *, method: str = "revoke", **arguments: Any) -> bytes:
    return asked(method, {"task_id": ids, **arguments})


def asked(method: str, arguments: dict[str, Any], **fields: Any) -> bytes:
    body = json.dumps({"method": method, "arguments": arguments, **fields}).encode()
    message = {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"clock": 41},
        "properties": {"body_encoding": "base64"},
    }
    return json.dumps(message).encode()


async def say(context: Context, payload: bytes) -> None:
    await context.main.call("PUBLISH", context.keys.pidbox, payload)


async def wait_as(context: Context, oid: str) -> bytes:
    """Bind a reply queue as Celery's clients do."""
    queue = f"{oid}.reply.celery.pidbox"
    await context.main.call("SADD", context.keys.binding("reply.celery.pidbox"), f"{oid}\x06\x16\x06\x16{queue}")
    return context.keys.list(queue, 0)


async def answers(context: Context, key: bytes, count: int = 1) -> list[Any]:
    await eventually(lambda: _long_enough(context, key, count), "answers come")
    elements = [json.loads(raw) for raw in await context.main.call("LRANGE", key, 0, -1)]
    assert all(element["headers"]["ticket"] == "t-1" for element in elements)
    assert all(element["headers"]["clock"] > 41 for element in elements)
    return [json.loads(base64.b64decode(element["body"])) for element in elements]


async def _long_enough(context: Context, key: bytes, count: int) -> bool:
    return await context.main.call("LLEN", key) >= count


def reply(oid: str) -> dict[str, Any]:
    return {"ticket": "t-1", "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": oid}}


async def test_revokes_are_heard_and_kept(either: Context, redis_service: Service) -> None:
    _, sink = await listening(either)
    await delay(either, "t-1")
    await say(either, revoke("t-1", terminate=False))
    await say(either, revoke(["t-2", "t-3", 7, None]))
    await say(either, revoke("t-4", terminate=True, signal="SIGKILL"))
    await say(either, revoke(["t-5"], method="terminate", signal="KILL"))
    await eventually(lambda: len(sink.values()) == 5, "all are heard")
    running = {one.value: one.running for one in sink.signals if isinstance(one, Tombstone)}
    assert running == {"t-1": False, "t-2": False, "t-3": False, "t-4": True, "t-5": True}
    assert all(one.expires > time.time() + 10_000 for one in sink.signals if isinstance(one, Tombstone))
    result = await eventually(lambda: either.main.call("GET", either.keys.result("t-1")), "what is delayed is removed")
    assert decode_result(result).state is TaskState.CANCELLED
    async with opened(redis_service.url, namespace=either.options.namespace) as later:

        async def known() -> bool:
            return {one.value: one.running for one in await later.kit.control.kept()} == running

        await eventually(known, "and kept")
        _, second = await listening(later, "w-2")
        assert {one.value: one.running for one in second.signals} == running


@pytest.mark.parametrize("ids", [None, [], "", 7, {"x": 1}, [[]]])
async def test_a_revoke_of_nothing_is_nothing(context: Context, ids: Any) -> None:
    _, sink = await listening(context)
    await say(context, revoke(ids))
    await say(context, revoke("end"))
    await eventually(lambda: "end" in sink.values(), "the mailbox goes on")
    assert sink.values() <= {"end", "x"}


async def test_revokes_for_others_are_not_heard(context: Context) -> None:
    _, sink = await listening(context)
    node = node_name("w-1")
    await say(context, asked("revoke", {"task_id": "no"}, destination=["w-1", "w-2@host"]))
    await say(context, asked("revoke", {"task_id": "yes-1"}, destination=[node]))
    await say(context, asked("revoke", {"task_id": "no-2"}, pattern="x*", matcher="glob"))
    await say(context, asked("revoke", {"task_id": "yes-2"}, pattern="w-1@*", matcher="glob"))
    await eventually(lambda: "yes-2" in sink.values(), "the last comes")
    assert sink.values() == {"yes-1", "yes-2"}


async def test_no_pattern_of_a_stranger_stops_the_mailbox(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    """With Python's own regular expressions the first of these never ends, and the last is not heard."""
    _, sink = await listening(context)
    for pattern, matcher in (("(((.+)+)+)+!", "pcre"), ("(((.+)+)+)+!", "pcre"), ("*a" * 1_000_000, "glob")):
        await say(context, asked("revoke", {"task_id": "no"}, pattern=pattern, matcher=matcher))
    await say(context, asked("revoke", {"task_id": "yes"}))
    await eventually(lambda: "yes" in sink.values(), "the mailbox goes on")
    assert sink.values() == {"yes"}
    (told,) = [one.getMessage() for one in caplog.records if one.name == "tranship.mailbox"]
    assert "its pattern is for the matcher 'pcre'" in told


async def test_a_ping_is_answered_where_somebody_waits(either: Context) -> None:
    await listening(either)
    key = await wait_as(either, "o-1")
    await say(either, asked("ping", {}, **reply("o-2")))
    await say(either, asked("shutdown", {}, **reply("o-1")))
    await say(either, asked("ping", {}))
    await say(either, asked("ping", {}, **reply("o-1")))
    assert await answers(either, key) == [{node_name("w-1"): {"ok": "pong"}}]
    assert 0 < await either.main.call("TTL", key) <= 60
    assert await either.main.call("EXISTS", either.keys.list("o-2.reply.celery.pidbox", 0)) == 0


async def test_a_newcomer_is_told_what_is_cancelled_and_tells(context: Context) -> None:
    control, sink = await listening(context)
    await control.cancel([dead("t-1"), dead("t-2", running=False), dead("job", kind="key")])
    key = await wait_as(context, "o-1")
    await say(context, asked("hello", {"from_node": "c@host", "revoked": ["theirs"]}, **reply("o-1")))
    ((answer,),) = [one.values() for one in await answers(context, key)]
    assert answer["revoked"] == ["t-1", "t-2"]
    assert answer["clock"] > 41
    assert "theirs" in sink.values()
    await say(context, asked("hello", {"from_node": node_name("w-1"), "revoked": ["mine"]}, **reply("o-1")))
    await say(context, asked("hello", {"from_node": "old@host", "revoked": {"mapped": [1.0, "mapped"]}}))
    await eventually(lambda: "mapped" in sink.values(), "older workers send a map")
    assert "mine" not in sink.values(), "our own name comes from a namesake, or from ourselves"


async def test_fifty_thousand_ids_leave_the_loop_its_turns(context: Context) -> None:
    _, sink = await listening(context)
    ids = [f"t-{number}" for number in range(50_000)]
    await say(context, asked("hello", {"from_node": "c@host", "revoked": ids}))
    await eventually(lambda: len(sink.signals) == len(ids), "all come")
    assert sink.calls == 100
    assert list(await context.kit.control.kept()) == []


async def test_celery_off(redis_service: Service, namespace: str) -> None:
    async with opened(redis_service.url, namespace=namespace, celery="off") as context:
        control, sink = await listening(context)
        assert await context.main.call("PUBLISH", context.keys.pidbox, revoke("t-1")) == 0, "nobody subscribes"
        async with opened(redis_service.url, namespace=namespace) as other:
            _, heard = await listening(other, "w-2")
            await control.cancel([dead("t-2")])
            await control.send(Command(name="end"))
            await eventually(lambda: "end" in heard.names(), "they hear each other")
            assert len([one for one in heard.signals if isinstance(one, Tombstone)]) == 1
        assert sink.values() == {"t-2"}


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)
