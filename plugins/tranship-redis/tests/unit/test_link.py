"""The connection when nothing goes wrong with the network: order, answers, pushes, scripts, hooks, closing."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from link_kit import Answers, clients, linked, server, until, wire_of
from redis.exceptions import ResponseError
from redis_context import driven, make_driver

from tranship.errors import BrokerRefused, ClosedError
from tranship.testing.services import ProcessService
from tranship_redis import _scripts
from tranship_redis._pack import pack
from tranship_redis._scripts import Script


@pytest.fixture(scope="module")
def redis() -> Iterator[ProcessService]:
    with server("--appendonly", "no") as service:
        yield service


@pytest.fixture
def url(redis: ProcessService) -> str:
    return redis.url


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Script:
    """A script of ours that no link loads by itself."""
    (tmp_path / "sample.lua").write_text("return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}")
    monkeypatch.setattr(_scripts, "_FOLDER", tmp_path)
    return Script("sample")


async def test_commands_and_replies(url: str) -> None:
    async with linked(url) as link:
        assert link.up
        assert link.generation == 1
        assert await link.call("SET", "k", 1.5) == b"OK"
        assert await link.call(b"GET", b"k") == b"1.5"
        assert await link.call("GET", "nothing") is None
        assert await link.call("DEL", "k") == 1
        assert link.server.is_resp3
        assert link.server.role == "master"


async def test_many_in_one_tick_are_answered_in_order(url: str) -> None:
    answers = Answers()
    async with linked(url) as link:
        for number in range(1000):
            link.post(pack("ECHO", number), answers)
        assert await answers.count(1000) == [b"%d" % number for number in range(1000)]


async def test_an_error_is_a_value_and_shifts_nothing(url: str) -> None:
    answers = Answers()
    async with linked(url) as link:
        await link.call("SET", "text", "x")
        for command in (["LPUSH", "text", "y"], ["ECHO", "a"], ["NOSUCH"], ["ECHO", "b"]):
            link.post(pack(*command), answers)
        first, second, third, fourth = await answers.count(4)
    assert (second, fourth) == (b"a", b"b")
    assert isinstance(first, ResponseError)
    assert str(first).startswith("WRONGTYPE ")
    assert str(third).startswith("ERR unknown command")


async def test_call_raises_ours_and_names_the_key_but_no_data(url: str) -> None:
    async with linked(url) as link:
        await link.call("SET", "text", "x")
        with pytest.raises(BrokerRefused, match=r"LPUSH text: .*WRONGTYPE") as caught:
            await link.call("LPUSH", "text", "somebody's data")
    assert isinstance(caught.value.__cause__, ResponseError)
    assert "somebody" not in str(caught.value)


async def test_a_cancelled_caller_leaves_his_place_in_the_order(url: str) -> None:
    async with linked(url) as link:
        callers = [asyncio.create_task(link.call("ECHO", str(number))) for number in range(20)]
        await asyncio.sleep(0)
        for caller in callers[::2]:
            caller.cancel()
        replies = await asyncio.gather(*callers, return_exceptions=True)
        assert replies[1::2] == [b"%d" % number for number in range(1, 20, 2)]
        assert all(isinstance(reply, asyncio.CancelledError) for reply in replies[::2])
        assert await link.call("ECHO", "still exact") == b"still exact"


async def test_what_a_callback_raises_harms_nobody(url: str, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    async with linked(url) as link:
        link.post(pack("PING"), broken)
        assert await link.call("ECHO", "x") == b"x"
        assert link.generation == 1
    assert "a bug" in caplog.text


async def test_a_callback_may_post(url: str) -> None:
    answers = Answers()
    async with linked(url) as link:
        link.post(pack("ECHO", 1), lambda _: link.post(pack("ECHO", 2), answers))
        assert await answers.count(1) == [b"2"]


async def test_large_values_both_ways(url: str) -> None:
    value = b"x" * (8 * 1024 * 1024)
    answers = Answers()
    async with linked(url) as link:
        for number in range(4):
            link.post(pack("SET", f"large:{number}", value), answers)
            link.post(pack("GET", f"large:{number}"), answers)
        got = await answers.count(8, 30)
        assert got[1::2] == [value] * 4
        await link.call("DEL", *[f"large:{number}" for number in range(4)])


async def test_subscribe_and_publish_in_one_write(url: str) -> None:
    heard: list[Any] = []
    answers = Answers()
    async with linked(url) as link:
        link.on_push(b"message", heard.append)
        link.post(pack("SUBSCRIBE", "a", "b", "a"), answers, pushes=3)
        link.post(pack("PUBLISH", "b", "hello"), answers)
        link.post(pack("ECHO", "after"), answers)
        assert await answers.count(3) == [None, 1, b"after"]
        assert heard == [[b"message", b"b", b"hello"]]
        link.post(pack("UNSUBSCRIBE", "a", "never"), answers, pushes=2)
        assert (await answers.count(4))[3] is None


async def test_patterns(url: str) -> None:
    heard: list[Any] = []
    answers = Answers()
    async with linked(url) as link:
        link.on_push(b"pmessage", heard.append)
        link.post(pack("PSUBSCRIBE", "news.*"), answers, pushes=1)
        await link.call("PUBLISH", "news.today", "x")
        link.post(pack("PUNSUBSCRIBE", "news.*"), answers, pushes=1)
        assert await answers.count(2) == [None, None]
        assert heard == [[b"pmessage", b"news.*", b"news.today", b"x"]]


async def test_several_handlers_and_one_taken_back(url: str, caplog: pytest.LogCaptureFixture) -> None:
    first: list[Any] = []
    second: list[Any] = []

    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    async with linked(url) as link:
        remove = link.on_push(b"message", first.append)
        link.on_push(b"message", broken)
        link.on_push(b"message", second.append)
        link.post(pack("SUBSCRIBE", "c"), Answers(), pushes=1)
        await link.call("PUBLISH", "c", "1")
        remove()
        remove()
        await link.call("PUBLISH", "c", "2")
        assert ([frame[2] for frame in first], [frame[2] for frame in second]) == ([b"1"], [b"1", b"2"])
    assert "a bug" in caplog.text


async def test_invalidations_null_lists_included(url: str) -> None:
    pushed: list[Any] = []
    async with linked(url) as link, linked(url) as other:
        link.on_push(b"invalidate", pushed.append)
        await link.call("CLIENT", "TRACKING", "ON", "NOLOOP")
        assert await link.call("LLEN", "queue") == 0
        await other.call("LPUSH", "queue", "x")
        await until(lambda: len(pushed) == 1)
        assert await link.call("LLEN", "queue") == 1
        await other.call("FLUSHALL")
        await until(lambda: len(pushed) >= 2)
        assert await link.call("ECHO", "x") == b"x"
    assert pushed[0] == [b"invalidate", [b"queue"]]
    assert pushed[1] == [b"invalidate", None]


async def test_a_flood_of_pushes(url: str) -> None:
    heard: list[Any] = []
    answers = Answers()
    async with linked(url) as link, linked(url) as other:
        link.on_push(b"message", heard.append)
        link.post(pack("SUBSCRIBE", "flood"), answers, pushes=1)
        await answers.count(1)
        for number in range(20_000):
            other.post(pack("PUBLISH", "flood", number), answers)
            if number % 100 == 0:
                link.post(pack("ECHO", number), answers)
        await answers.count(20_201, 30)
        await until(lambda: len(heard) == 20_000)
        assert [int(frame[2]) for frame in heard] == list(range(20_000))
        assert await link.call("ECHO", "x") == b"x"


async def test_resp3_types_arrive(url: str) -> None:
    async with linked(url) as link:
        await link.call("ZADD", "z", 1.5, "m")
        assert await link.call("ZSCORE", "z", "m") == 1.5
        await link.call("HSET", "h", "f", "v")
        assert await link.call("HGETALL", "h") == {b"f": b"v"}


# Scripts


async def test_a_script_the_server_does_not_know_is_loaded(url: str, script: Script) -> None:
    async with linked(url) as link:
        await link.call("SCRIPT", "FLUSH")
        await link.call("DEL", "counter")
        assert await link.run(script, [b"counter"], ["x"]) == [b"counter", b"x", 1]
        assert await link.call("SCRIPT", "EXISTS", script.sha) == [1]
        assert await link.run(script, [b"counter"], ["y"]) == [b"counter", b"y", 2]


async def test_a_script_lost_under_load_runs_once_each(url: str, script: Script) -> None:
    answers = Answers()
    async with linked(url) as link:
        await link.call("SCRIPT", "FLUSH")
        await link.call("DEL", "counter")
        for number in range(50):
            link.post_script(script, script.pack([b"counter"], [number]), answers)
        got = await answers.count(50)
        assert [int(argument) for _, argument, _ in got] == list(range(50))
        assert await link.call("GET", "counter") == b"50"


async def test_an_error_inside_a_script_names_script_and_key(url: str, script: Script) -> None:
    async with linked(url) as link:
        await link.call("SET", "text", "no number")
        with pytest.raises(BrokerRefused, match=r"script sample text: .*not an integer"):
            await link.run(script, [b"text"], ["somebody's data"])


async def test_every_script_of_ours_is_loaded_on_connecting(url: str) -> None:
    async with linked(url) as link:
        await link.call("SCRIPT", "FLUSH")
    async with linked(url) as link:
        exists = await link.call("SCRIPT", "EXISTS", *[one.sha for one in _scripts.ALL])
    assert exists == [1] * len(_scripts.ALL)


# Hooks


async def test_a_hook_that_fails_later_is_tried_again(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with linked(url) as link:
        calls: list[int] = []

        async def sometimes() -> None:
            calls.append(link.generation)
            if len(calls) < 3:
                raise RuntimeError("a bug")

        link.on_up(sometimes)
        wire_of(link).abort("for a test")
        await until(lambda: len(calls) == 3)
        assert calls == [2, 3, 4]
    assert "a bug" in caplog.text


async def test_a_hook_taken_back_is_not_run(url: str) -> None:
    async with linked(url) as link:
        calls: list[int] = []

        async def hook() -> None:
            calls.append(link.generation)

        remove = link.on_up(hook)
        wire_of(link).abort("for a test")
        await until(lambda: link.up and calls)
        remove()
        ran, seen = len(calls), link.generation
        wire_of(link).abort("for a test")
        await until(lambda: link.up and link.generation > seen)
        assert len(calls) == ran


# Closing


async def test_closing_answers_what_waits(url: str) -> None:
    answers = Answers()
    async with driven(url) as driver:
        link = driver.context.main
        for _ in range(3):
            link.post(pack("BLPOP", "nothing", 0), answers)
        caller = asyncio.create_task(link.call("BLPOP", "nothing", 0))
        await asyncio.sleep(0)
        await driver.backend.aclose()
        assert [type(answer) for answer in answers.got] == [ClosedError] * 3
        with pytest.raises(ClosedError):
            await caller
        with pytest.raises(ClosedError, match="open a new"):
            link.post(pack("PING"), answers)


async def test_no_socket_is_left(redis: ProcessService) -> None:
    before = clients(redis)
    drivers = [make_driver(redis.url) for _ in range(5)]
    await asyncio.gather(*(driver.backend.open() for driver in drivers))
    assert len(clients(redis) - before) == 5
    sockets = [wire_of(driver.context.main)._transport.get_extra_info("socket") for driver in drivers]
    await asyncio.gather(*(driver.backend.aclose() for driver in drivers))
    assert [socket.fileno() for socket in sockets] == [-1] * 5
    await until(lambda: clients(redis) <= before)


def test_a_loop_that_ends_takes_the_socket_along(url: str) -> None:
    kept: list[Any] = []

    async def forget_to_close() -> None:
        driver = make_driver(url)
        await driver.backend.open()
        link = driver.context.main
        kept.append(wire_of(link)._transport.get_extra_info("socket"))
        kept.append(asyncio.create_task(link.call("BLPOP", "nothing", 0)))
        await asyncio.sleep(0)

    asyncio.run(forget_to_close())
    socket, caller = kept
    assert socket.fileno() == -1
    assert caller.cancelled()


async def test_logs_hold_no_data(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with linked(url) as link:
        await link.call("SET", "k", "somebody's data")
    assert "somebody" not in caplog.text
