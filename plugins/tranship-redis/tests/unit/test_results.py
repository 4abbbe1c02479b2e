"""Results on a real server: who is first stays, who expects one gets it, and nothing that is stored can hang a waiter."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import msgpack
import pytest
from redis_context import eventually
from submit_kit import Ports, ids_of, message, ports, raw, result
from tap import Tap

from tranship.codec import MSGPACK
from tranship.envelope import ErrorInfo, TaskResult, TaskState
from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    ClosedError,
    MalformedMessage,
    MessageTooLarge,
    StorageFull,
)
from tranship.ports import ConnectionEvent, StoredResult
from tranship.protocol import decode_result, encode_result
from tranship.testing.services import Service
from tranship_redis._table import result_value

GOLDEN = Path(__file__).parents[4] / "tests" / "golden" / "vectors"
DOCUMENTS = sorted(path.name for path in GOLDEN.iterdir() if path.name.startswith("result-"))
META = "celery-task-meta-"
TERMINAL = [
    b'{"status": "SUCCESS", "result": 1}',
    b'{"status":"FAILURE","result":null}',
    b'{"status" : "REVOKED"}',
    b'{"result": 1, "task_id": "x", "status": "SUCCESS"}',
    b' {"status": "SUCCESS"}',
    msgpack.packb({"status": "SUCCESS", "result": b"\x00"}),
    msgpack.packb({"result": 1, "status": "FAILURE"}),
]
OPEN = [
    b'{"status": "STARTED", "result": {"pid": 1}}',
    b'{"status":"RETRY"}',
    b'{"status": "PROGRESS", "result": "{\\"status\\": \\"SUCCESS\\"}"}',
    b'{"result": "SUCCESS"}',
    msgpack.packb({"status": "STARTED"}),
    msgpack.packb(["SUCCESS"]),
    b"",
    b"{",
    b"\xc1",
    b"null",
    b'{"status": {"a": 1}}',
]


@pytest.fixture
async def redis(redis_service: Service) -> AsyncIterator[Ports]:
    raw(redis_service.url, "FLUSHALL")
    async with ports(redis_service.url) as made:
        yield made


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def either(redis_service: Service, request: pytest.FixtureRequest) -> AsyncIterator[Ports]:
    raw(redis_service.url, "FLUSHALL")
    async with ports(redis_service.url, protocol=request.param) as made:
        yield made


class Inbox:
    """A sink that remembers what came, and how."""

    def __init__(self, redis: Ports) -> None:
        self.batches: list[Sequence[StoredResult]] = []
        redis.results.attach(self.batches.append)

    @property
    def got(self) -> list[StoredResult]:
        return [one for batch in self.batches for one in batch]

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.got]

    async def wait(self, count: int, within: float = 30.0) -> list[StoredResult]:
        await eventually(lambda: len(self.got) >= count, f"{count} results are pushed", within=within)
        return self.got


class TestPut:
    async def test_stored_as_celery_would(self, redis: Ports) -> None:
        done = result("a", {"x": 1})
        assert await redis.results.put([done]) == [True]
        assert await redis.call("GET", META + "a") == done.document
        assert 86399000 < await redis.call("PTTL", META + "a") <= 86400000

    @pytest.mark.parametrize("document", TERMINAL, ids=repr)
    async def test_what_is_terminal_stays(self, redis: Ports, document: bytes) -> None:
        await redis.call("SET", META + "a", document)
        assert await redis.results.put([result("a", 2), result("b", 3)]) == [False, True]
        assert await redis.call("GET", META + "a") == document

    @pytest.mark.parametrize("document", OPEN, ids=repr)
    async def test_what_is_not_gives_way(self, redis: Ports, document: bytes) -> None:
        await redis.call("SET", META + "a", document)
        assert await redis.results.put([result("a", 2)]) == [True]
        assert (await redis.results.get_many(["a"]))[0].state is TaskState.SUCCESS

    async def test_something_else_under_the_name_is_left_alone(self, redis: Ports) -> None:
        await redis.call("LPUSH", META + "a", "x")
        with pytest.raises(BrokerRefused, match="celery-task-meta-a"):
            await redis.results.put([result("a", 2)])
        assert await redis.call("LLEN", META + "a") == 1

    async def test_the_same_id_twice(self, redis: Ports) -> None:
        assert await redis.results.put([result("a", 1), result("a", 2)]) == [True, False]

    async def test_ttl(self, redis_service: Service) -> None:
        async with ports(redis_service.url, result_ttl=50.0) as redis:
            await redis.results.put([result("d"), result("e", ttl=5.0), result("f", ttl=1e300), result("z", ttl=0.0)])
            assert 49000 < await redis.call("PTTL", META + "d") <= 50000
            assert 4000 < await redis.call("PTTL", META + "e") <= 5000
            assert await redis.call("PTTL", META + "f") > 1e9

            async def gone() -> bool:
                return await redis.call("EXISTS", META + "z") == 0

            await eventually(gone, "a result for no time at all")

    async def test_many_and_large(self, redis: Ports) -> None:
        many = [result(f"id-{number}", "x" * 30_000) for number in range(250)]
        assert await redis.results.put(many) == [True] * 250
        assert await redis.results.put([*many, result("new")]) == [False] * 250 + [True]

    async def test_too_large(self, redis_service: Service) -> None:
        async with ports(redis_service.url, max_message_size=1000) as redis:
            with pytest.raises(MessageTooLarge) as caught:
                await redis.results.put([result("a"), result("b", "x" * 1000)])
            assert (caught.value.task_id, caught.value.limit) == ("b", 1000)

    async def test_nothing(self, redis: Ports) -> None:
        assert await redis.results.put([]) == []
        assert await redis.results.get_many([]) == []
        await redis.results.forget_many([])

    async def test_no_memory(self, redis: Ports) -> None:
        inbox = Inbox(redis)
        redis.results.expect(["a"])
        await redis.call("CONFIG", "SET", "maxmemory", "1mb")
        try:
            with pytest.raises(StorageFull):
                await redis.results.put([result("a")])
        finally:
            await redis.call("CONFIG", "SET", "maxmemory", "0")
        assert inbox.got == []
        assert await redis.results.put([result("a")]) == [True]
        await inbox.wait(1)

    async def test_closed(self, redis: Ports) -> None:
        results = redis.results
        await redis.driver.backend.aclose()
        for call in (results.put([result("a")]), results.get_many(["a"]), results.forget_many(["a"])):
            with pytest.raises(ClosedError):
                await call
        with pytest.raises(ClosedError):
            results.expect(["a"])
        assert results.waiting == 0

    async def test_not_connected(self, redis_service: Service) -> None:
        async with ports(redis_service.url) as redis:
            redis_service.kill()
            await eventually(lambda: not redis.link.up, "the loss is noticed")
            with pytest.raises(BrokerUnreachable):
                await redis.results.put([result("a")])
            with pytest.raises(BrokerUnreachable):
                await redis.results.get_many(["a"])
            redis_service.start()


class TestGet:
    async def test_in_order_and_in_portions(self, either: Ports) -> None:
        ids = [f"id-{number}" for number in range(1203)]
        await either.results.put([result(one, one) for one in ids[::2]])
        read = await either.results.get_many(ids)
        assert [one.id for one in read] == ids
        assert [one.state for one in read[:4]] == [TaskState.SUCCESS, TaskState.PENDING] * 2
        assert decode_result(read[1202].document).value == "id-1202"
        assert (read[1].document, read[1].ttl) == (b"", None)

    @pytest.mark.parametrize("state", [state for state in TaskState if state.terminal])
    @pytest.mark.parametrize("content_type", ["application/json", MSGPACK])
    async def test_every_state(self, redis: Ports, state: TaskState, content_type: str) -> None:
        error = None if state is TaskState.SUCCESS else ErrorInfo(type="builtins.ValueError", message="no")
        document = encode_result(TaskResult(id="a", state=state, error=error), content_type=content_type)
        await redis.results.put([StoredResult(id="a", state=state, document=document)])
        assert await redis.results.get_many(["a"]) == [StoredResult(id="a", state=state, document=document)]

    @pytest.mark.parametrize(
        "document", [b"{", b"\xc1", b"null", b"[1]", b"", b"  ", b'{"result": 1}', b'{"status": 1}']
    )
    async def test_one_that_cannot_be_read_ends_the_wait(self, redis: Ports, document: bytes) -> None:
        await redis.call("SET", META + "a", document)
        (read,) = await redis.results.get_many(["a"])
        assert read.state.terminal
        with pytest.raises(MalformedMessage):
            decode_result(read.document, task_id="a")

    @pytest.mark.parametrize("status", ["STARTED", "RETRY", "PENDING", "RECEIVED", "PROGRESS"])
    async def test_intermediate(self, redis: Ports, status: str) -> None:
        await redis.call("SET", META + "a", json.dumps({"status": status, "result": None, "task_id": "a"}))
        (read,) = await redis.results.get_many(["a"])
        assert not read.state.terminal
        assert decode_result(read.document).state is read.state

    async def test_no_string_at_all(self, redis: Ports) -> None:
        await redis.call("LPUSH", META + "a", "x")
        assert [one.state for one in await redis.results.get_many(["a"])] == [TaskState.PENDING]

    @pytest.mark.parametrize("name", DOCUMENTS)
    def test_celerys_documents(self, name: str) -> None:
        document = (GOLDEN / name).read_bytes()
        told = decode_result(document)
        assert result_value(told.id, document) == told.state.value.encode() + b"\n" + document

    async def test_forgotten(self, redis: Ports) -> None:
        ids = [f"id-{number}" for number in range(1203)]
        await redis.results.put([result(one) for one in [*ids, "other"]])
        await redis.results.forget_many([*ids, "unknown"])
        await redis.results.forget_many(ids)
        assert await redis.call("KEYS", "*") == [f"{META}other".encode()]


class TestPush:
    async def test_pushed_to_who_expects(self, either: Ports, redis_service: Service) -> None:
        inbox = Inbox(either)
        async with ports(redis_service.url) as worker:
            either.results.expect(["a", "b"])
            await either.results.get_many(["a"])
            await worker.results.put([result("a", 1), result("c", 2)])
            (got,) = await inbox.wait(1)
            assert (got.id, got.state, decode_result(got.document).value) == ("a", TaskState.SUCCESS, 1)
            either.results.unexpect(["b", "unknown"])
            assert either.results.waiting == 1
            await either.results.get_many(["b"])
            await worker.results.put([result("b", 1)])
            await worker.results.put([result("b", 1)])
        assert await _channels(redis_service) == {"a"}
        assert inbox.ids == ["a"]

    async def test_an_id_with_half_a_character_harms_nobody(self, either: Ports, redis_service: Service) -> None:
        inbox, (sent,) = Inbox(either), [message()]
        either.results.expect(["\ud800", sent.envelope.id])
        (receipt,) = await either.submitter.submit([sent])
        assert receipt.id == sent.envelope.id
        found = await either.results.get_many(["\ud800", sent.envelope.id])
        assert {one.state for one in found} == {TaskState.PENDING}
        done = [result("\ud800", 1), result(sent.envelope.id, 2)]
        assert await either.results.put(done) == [True, True]
        await eventually(lambda: len(inbox.got) == 2, "both are pushed")
        assert [one.state for one in await either.results.get_many(["\ud800"])] == [TaskState.SUCCESS]
        await either.results.forget_many(["\ud800"])

    async def test_not_what_is_intermediate(self, redis: Ports) -> None:
        inbox = Inbox(redis)
        redis.results.expect(["a"])
        await redis.results.get_many(["a"])
        for status in ("STARTED", "RETRY", "PROGRESS"):
            await redis.call("PUBLISH", META + "a", json.dumps({"status": status, "task_id": "a"}))
        await redis.call("PUBLISH", META + "a", b"\xc1 no document")
        (got,) = await inbox.wait(1)
        assert got.state.terminal
        assert got.document == b"\xc1 no document"

    async def test_many_in_order(self, redis: Ports) -> None:
        inbox = Inbox(redis)
        ids = [f"id-{number}" for number in range(90)]
        redis.results.expect(ids)
        await redis.results.put([result(one) for one in ids])
        await inbox.wait(90)
        assert inbox.ids == ids

    async def test_expected_in_the_write_of_the_submit(self, redis_service: Service) -> None:
        async with Tap(redis_service.url) as tap, ports(tap.url) as redis:
            (pipe,) = tap.hold()
            sent = [message(), message()]
            redis.results.expect(ids_of(sent)[:1])
            redis.results.expect(ids_of(sent)[1:])
            call = asyncio.create_task(redis.submitter.submit(sent))
            await eventually(lambda: pipe.held, "it is written")
            held = bytes(pipe.held or b"")
            assert held.count(b"SUBSCRIBE") == 1
            assert held.index(b"SUBSCRIBE") < held.index(b"EVALSHA")
            pipe.release()
            assert len(await call) == 2

    async def test_what_changes_in_a_tick_is_one_command(self, redis: Ports) -> None:
        await redis.call("CONFIG", "RESETSTAT")
        ids = [f"id-{number}" for number in range(100)]
        for one in ids:
            redis.results.expect([one])
        await redis.results.get_many(ids)
        for one in ids:
            redis.results.unexpect([one])

        async def given_up() -> bool:
            return "cmdstat_unsubscribe:calls=1," in (await redis.call("INFO", "commandstats")).decode()

        await eventually(given_up, "they are unsubscribed in one command")
        assert "cmdstat_subscribe:calls=1," in (await redis.call("INFO", "commandstats")).decode()

    async def test_back_and_forth_in_one_tick(self, redis: Ports, redis_service: Service) -> None:
        expect, unexpect = redis.results.expect, redis.results.unexpect
        expect(["a", "b"])
        unexpect(["a"])
        await redis.results.get_many(["a"])
        assert await _channels(redis_service) == {"b"}
        unexpect(["b"])
        expect(["b"])
        unexpect(["b"])
        expect(["b", "a"])
        await redis.results.get_many(["a"])
        assert await _channels(redis_service) == {"a", "b"}
        unexpect(["a", "b"])

        async def given_up() -> bool:
            return await _channels(redis_service) == set()

        await eventually(given_up, "nobody is subscribed to anything")
        inbox = Inbox(redis)
        expect(["a"])
        await redis.results.put([result("a")])
        await inbox.wait(1)

    async def test_large_ones_are_read_a_few_at_a_time(self, redis: Ports) -> None:
        """Otherwise the server would cut the connection, which has subscriptions, for too much on its way."""
        ids = [f"id-{number}" for number in range(200)]
        await redis.results.put([result(one, "x" * 300_000) for one in ids])
        redis.results.expect(["other"])
        generation = redis.link.generation
        found = await redis.results.get_many([*ids, "none"])
        assert [one.id for one in found] == [*ids, "none"]
        assert [one.state for one in found] == [TaskState.SUCCESS] * 200 + [TaskState.PENDING]
        assert redis.link.generation == generation

    async def test_one_that_is_too_large_for_any_answer_is_read_in_pieces(self, redis: Ports) -> None:
        """A Celery worker's, say, which knows no bound: one read of it all would be cut off again and again."""
        document = b'{"status": "SUCCESS", "result": "%b"}' % (b"x" * 40_000_000)
        await redis.results.put([result("small", 1)])
        redis.results.expect(["other"])
        await redis.results.get_many(["other"])
        await redis.call("SET", META + "large", document)
        generation = redis.link.generation
        found = await redis.results.get_many(["small", "large", "none"])
        assert [one.state for one in found] == [TaskState.SUCCESS, TaskState.SUCCESS, TaskState.PENDING]
        assert found[1].document == document
        assert (await redis.results.get_many(["large"]))[0].document == document
        assert redis.link.generation == generation

    async def test_expected_again_after_a_lost_connection(self, either: Ports, redis_service: Service) -> None:
        inbox = Inbox(either)
        ids = [f"id-{number}" for number in range(1203)]
        either.results.expect(ids)
        await either.results.get_many(ids[:1])
        redis_service.kill()
        await eventually(lambda: not either.link.up, "the loss is noticed")
        either.results.unexpect(ids[:3])
        either.results.expect(["late"])
        redis_service.start()
        await eventually(lambda: either.link.up and either.ctx.pubsub.up, "it is back")
        await either.results.get_many(ids[:1])

        async def expected_again() -> bool:
            return await _channels(redis_service) == {*ids[3:], "late"}

        await eventually(expected_again, "all are subscribed to again")
        await either.results.put([result(one) for one in [*ids, "late"]])
        # What was read again and pushed as well comes twice.
        await eventually(lambda: len(set(inbox.ids)) >= 1201, "all are pushed")
        assert set(inbox.ids) == {*ids[3:], "late"}

    async def test_expected_while_a_connection_is_being_prepared(self, redis: Ports, redis_service: Service) -> None:
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            reached.set()
            await go_on.wait()

        redis.results.expect(["early"])
        redis.link.on_up(slow)
        redis.ctx.kit.connection.abort()
        await reached.wait()
        redis.results.expect(["late"])
        redis.results.unexpect(["early"])
        await asyncio.sleep(0.01)
        go_on.set()
        await eventually(lambda: redis.link.up, "it is back")
        await redis.results.get_many(["late"])
        assert await _channels(redis_service) == {"late"}

    async def test_a_lost_connection_of_its_own_is_made_up_for(self, redis_service: Service) -> None:
        raw(redis_service.url, "FLUSHALL")
        async with ports(redis_service.url, protocol=2) as redis, ports(redis_service.url) as worker:
            inbox = Inbox(redis)
            redis.results.expect(["a", "b"])
            await redis.results.get_many(["a"])
            events: list[ConnectionEvent] = []
            redis.driver.backend.on_event(lambda event, _generation: events.append(event))
            raw(redis_service.url, "CLIENT", "KILL", "TYPE", "pubsub")
            # Only then is everything subscribed to again.
            await eventually(lambda: ConnectionEvent.RESTORED in events, "a connection without it is replaced")
            await redis.results.get_many(["a"])
            await worker.results.put([result("a")])
            await worker.results.put([result("b")])
            await eventually(lambda: {"a", "b"} <= set(inbox.ids), "both are pushed", within=5)

    async def test_a_sink_that_fails_harms_nobody(self, redis: Ports, caplog: pytest.LogCaptureFixture) -> None:
        def fail(_results: Sequence[StoredResult]) -> None:
            raise RuntimeError("a bug elsewhere")

        redis.results.attach(fail)
        redis.results.expect(["a"])
        await redis.results.put([result("a")])
        inbox = Inbox(redis)
        redis.results.expect(["b"])
        await redis.results.put([result("b")])
        await inbox.wait(1)
        assert "a bug elsewhere" in caplog.text

    async def test_closed(self, redis: Ports, redis_service: Service) -> None:
        inbox = Inbox(redis)
        redis.results.expect(["a"])
        await redis.results.get_many(["a"])
        await redis.driver.backend.aclose()
        assert raw(redis_service.url, "PUBLISH", META + "a", result("a").document) == 0, "somebody listens"
        assert inbox.got == []


class TestRights:
    async def test_who_may_not_listen_is_served_by_reading(
        self, redis: Ports, redis_service: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        with _user(redis_service, "resetchannels") as url:
            async with ports(url) as limited:
                inbox = Inbox(limited)
                limited.results.expect(["a"])
                limited.results.expect(["b"])
                await limited.results.get_many(["a"])
                limited.results.expect(["c", "never"])
                await redis.results.put([result("a"), result("b"), result("c")])
                await eventually(lambda: {"a", "b", "c"} <= set(inbox.ids), "all are found")
                limited.results.unexpect(["a", "b", "c", "never"])
                topic = limited.ctx.kit.connection.topic
                await eventually(lambda: not topic._polled, "nobody reads for nothing")
                inbox.batches.clear()
                limited.results.expect(["d"])
                await redis.results.put([result("d")])
                await inbox.wait(1)
        assert caplog.text.count("polled") == 1
        assert "channels" in caplog.text

    async def test_what_never_comes_is_asked_for_less_and_less(
        self, redis: Ports, redis_service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tranship_redis._topic.POLL", 0.01)
        monkeypatch.setattr("tranship_redis._topic.LONGEST_POLL", 60.0)
        with _user(redis_service, "resetchannels") as url:
            async with ports(url) as limited:
                reads: list[int] = []
                table = limited.ctx.kit.connection.table
                get = table.get
                monkeypatch.setattr(table, "get", lambda keys: reads.append(len(keys)) or get(keys))
                inbox = Inbox(limited)
                limited.results.expect(["never"])
                await asyncio.sleep(0.7)
                assert 3 <= len(reads) <= 10
                # Something new is not made to wait for it.
                limited.results.expect(["a"])
                await redis.results.put([result("a")])
                await inbox.wait(1, within=2)

    @pytest.mark.parametrize("command", ["get", "set", "publish"])
    async def test_who_may_not_do_everything_changes_nothing(
        self, redis: Ports, redis_service: Service, command: str
    ) -> None:
        first = result("a", 1)
        await redis.results.put([first])
        with _user(redis_service, "&*", f"-{command}") as url:
            async with ports(url) as limited:
                with pytest.raises(BrokerRefused, match=command.upper()):
                    await limited.results.put([result("b", 2), result("a", 2)])
        assert await redis.call("GET", META + "a") == first.document
        assert await redis.call("EXISTS", META + "b") == 0

    async def test_who_may_not_tell_does_not_store(self, redis: Ports, redis_service: Service) -> None:
        with _user(redis_service, "resetchannels") as url:
            async with ports(url) as limited:
                with pytest.raises(BrokerRefused, match="channel"):
                    await limited.results.put([result("a")])
        assert await redis.call("EXISTS", META + "a") == 0


@contextlib.contextmanager
def _user(service: Service, *rules: str) -> Iterator[str]:
    raw(service.url, "ACL", "SETUSER", "some", "on", ">pw", "~*", "+@all", *rules)
    try:
        yield service.url.replace("redis://", "redis://some:pw@")
    finally:
        raw(service.url, "ACL", "DELUSER", "some")


async def _channels(service: Service) -> set[str]:
    """The tasks whose results somebody is subscribed to."""
    return {name.decode().removeprefix(META) for name in raw(service.url, "PUBSUB", "CHANNELS", f"{META}*")}
