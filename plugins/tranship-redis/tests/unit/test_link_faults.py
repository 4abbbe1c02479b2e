"""The connection when the network or the server fails: what was under way is answered, and it comes back."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from link_kit import Answers, linked, server, until, until_why, wire_of, works
from redis_context import driven, make_driver
from redis_link import Link

from tranship.errors import BrokerRefused, BrokerUnreachable, ClosedError
from tranship.ports import ConnectionEvent
from tranship.testing.proxy import FaultProxy
from tranship.testing.services import ProcessService, ask_redis
from tranship_redis._errors import Lost
from tranship_redis._pack import pack

LOST, RESTORED = ConnectionEvent


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[ProcessService]:
    with server() as service:
        yield service


@pytest.fixture
def redis(shared_redis: ProcessService) -> ProcessService:
    shared_redis.start()
    shared_redis.resume()
    return shared_redis


@pytest.fixture
async def proxy(redis: ProcessService) -> AsyncIterator[FaultProxy]:
    async with FaultProxy("127.0.0.1", redis.place.port) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def behind(proxy: FaultProxy, redis: ProcessService, **options: Any) -> AsyncIterator[Link]:
    async with linked(proxy.url_for(redis.url), **options) as link:
        yield link


def events_of(link: Link) -> list[tuple[ConnectionEvent, int]]:
    events: list[tuple[ConnectionEvent, int]] = []
    link.on_event(lambda event, generation: events.append((event, generation)))
    return events


async def test_killed_and_started_again(redis: ProcessService) -> None:
    async with linked(redis.url) as link:
        events, hooks = events_of(link), []

        async def hook() -> None:
            hooks.append(await link.call("ECHO", link.generation))

        link.on_up(hook)
        redis.kill()
        await until(lambda: not link.up)
        with pytest.raises(BrokerUnreachable, match=f"127.0.0.1:{redis.place.port}") as caught:
            link.post(pack("PING"), Answers())
        assert not isinstance(caught.value, Lost)
        await asyncio.to_thread(redis.start)
        await works(link)
        # Commands pass before everybody has been told.
        await until(lambda: len(events) == 2)
        assert events == [(LOST, 1), (RESTORED, 2)]
        assert hooks == [b"2"]


async def test_what_is_under_way_when_the_server_dies_is_lost(redis: ProcessService) -> None:
    answers = Answers()
    async with linked(redis.url) as link:
        redis.pause()
        for _ in range(3):
            link.post(pack("PING"), answers)
        await asyncio.sleep(0)  # handed over
        redis.kill()
        await answers.count(3)
        assert [type(answer) for answer in answers.got] == [Lost] * 3
        assert len({id(answer) for answer in answers.got}) == 3


async def test_what_had_not_left_yet_is_known_not_to_have_been_sent(redis: ProcessService) -> None:
    answers = Answers()
    async with linked(redis.url) as link:
        link.post(pack("PING"), answers)
        await asyncio.sleep(0)
        redis.pause()
        link.post(pack("PING"), answers)
        wire_of(link).abort("for a test")
        redis.resume()
        assert [type(answer) for answer in answers.got] == [Lost, BrokerUnreachable]
        await works(link)


async def test_a_server_that_is_stopped_for_a_moment_keeps_its_connection(redis: ProcessService) -> None:
    async with linked(redis.url, command_timeout=5, keepalive=0.2) as link:
        redis.pause()
        caller = asyncio.create_task(link.call("ECHO", "slow"))
        done, _ = await asyncio.wait({caller}, timeout=0.6)
        assert not done
        redis.resume()
        assert await caller == b"slow"
        assert link.generation == 1


async def test_a_server_that_is_stopped_for_long_is_given_up_and_found_again(redis: ProcessService) -> None:
    async with linked(redis.url, command_timeout=0.4, connect_timeout=0.4) as link:
        redis.pause()
        begin = time.monotonic()
        with pytest.raises(BrokerUnreachable, match=r"not answered for 0\.4 s"):
            await link.call("PING")
        assert 0.35 < time.monotonic() - begin < 2
        # It accepts, as the kernel does that for it, and says nothing.
        await until_why(link, "did not answer")
        redis.resume()
        await works(link)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_black_hole(proxy: FaultProxy, redis: ProcessService, busy: bool) -> None:
    async with behind(proxy, redis, command_timeout=0.4, keepalive=0.3, connect_timeout=0.5) as link:
        answers = Answers()
        proxy.blackhole()
        begin = time.monotonic()
        while link.up:
            if busy:  # new commands are no sign of life
                with contextlib.suppress(BrokerUnreachable):
                    link.post(pack("PING"), answers)
            await asyncio.sleep(0.02)
            assert time.monotonic() - begin < 5
        assert all(type(answer) is Lost for answer in answers.got)
        proxy.heal()
        await works(link)


async def test_no_answers_while_pushes_come(redis: ProcessService) -> None:
    """A server that pushes and does not answer is no good."""
    async with linked(redis.url, command_timeout=0.4, keepalive=0.3) as link, linked(redis.url) as other:
        answers = Answers()
        link.post(pack("SUBSCRIBE", "c"), answers, pushes=1)
        await answers.count(1)
        wire_of(link)._waiting.append(answers)  # as if an answer had got lost
        while link.generation == 1:
            await other.call("PUBLISH", "c", "x")
            await asyncio.sleep(0.01)
        assert type((await answers.count(2))[1]) is Lost


async def test_an_answer_that_takes_long_to_arrive_is_waited_for(proxy: FaultProxy, redis: ProcessService) -> None:
    value = b"x" * 600_000
    async with behind(proxy, redis, command_timeout=0.5) as link:
        await link.call("SET", "k", value)
        proxy.rate(400_000)
        begin = time.monotonic()
        assert await link.call("GET", "k") == value
        assert time.monotonic() - begin > 0.6
        assert link.generation == 1


async def test_a_command_that_takes_long_to_leave_is_waited_for() -> None:
    # More than the sockets in between take at once: what they hold has to arrive within the timeout.
    value = b"x" * 40_000_000
    # No file: how long a disk takes for all of it, while the answer is due, is another matter.
    with server("--appendonly", "no") as quick:
        async with (
            FaultProxy("127.0.0.1", quick.place.port) as proxy,
            behind(proxy, quick, command_timeout=1.5) as link,
        ):
            proxy.rate(15_000_000)
            begin = time.monotonic()
            assert await link.call("SET", "k", value) == b"OK"
            assert time.monotonic() - begin > 2
            assert link.generation == 1


async def test_reset(proxy: FaultProxy, redis: ProcessService) -> None:
    async with behind(proxy, redis) as link:
        events = events_of(link)
        for generation in (2, 3, 4):
            proxy.reset()
            await until(lambda generation=generation: link.generation == generation)
            await works(link)
        assert events == [(LOST, 1), (RESTORED, 2), (LOST, 2), (RESTORED, 3), (LOST, 3), (RESTORED, 4)]


async def test_half_closed(proxy: FaultProxy, redis: ProcessService) -> None:
    async with behind(proxy, redis) as link:
        proxy.half_close()
        await until(lambda: link.generation == 2)
        await works(link)


async def test_the_server_kills_our_connection(redis: ProcessService) -> None:
    async with linked(redis.url) as link:
        number = await link.call("CLIENT", "ID")
        ask_redis(redis.place, "CLIENT", "KILL", "ID", str(number))
        await until(lambda: link.generation == 2)
        await works(link)


async def test_refused_for_long_then_there(proxy: FaultProxy, redis: ProcessService) -> None:
    async with behind(proxy, redis) as link:
        proxy.refuse()
        proxy.reset()
        await until_why(link, "refused")
        proxy.heal()
        await works(link)


async def test_closed_while_reconnecting(proxy: FaultProxy, redis: ProcessService) -> None:
    for rounds in range(10):
        async with driven(proxy.url_for(redis.url), connect_timeout=5) as driver:
            link = driver.context.main
            if rounds % 2:
                proxy.blackhole()
            proxy.reset()
            await until(lambda link=link: not link.up or link.generation > 1)
            await asyncio.sleep(0.015 * rounds)
            begin = time.monotonic()
            await driver.backend.aclose()
            assert time.monotonic() - begin < 4.5
            with pytest.raises(ClosedError):
                link.post(pack("PING"), Answers())
        proxy.heal()


async def test_closed_while_the_server_is_silent(proxy: FaultProxy, redis: ProcessService) -> None:
    async with driven(proxy.url_for(redis.url)) as driver:
        proxy.blackhole()
        caller = asyncio.create_task(driver.context.main.call("SET", "k", b"x" * 30_000_000))
        await asyncio.sleep(0.05)
        begin = time.monotonic()
        await driver.backend.aclose()
        assert time.monotonic() - begin < 4.5
        with pytest.raises(ClosedError):
            await caller


async def test_a_blocked_loop_does_not_blame_the_server(redis: ProcessService) -> None:
    async with linked(redis.url, command_timeout=0.3, keepalive=0.3) as link:
        for _ in range(3):
            caller = asyncio.create_task(link.call("PING"))
            await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251 - that is the point
            await caller
        assert link.generation == 1


async def test_idle_connections_are_asked(redis: ProcessService) -> None:
    async with linked(redis.url, keepalive=0.1) as link:
        before = wire_of(link)._received
        await until(lambda: wire_of(link)._received >= before + 3 * len(b"+PONG\r\n"))
        assert link.generation == 1


async def test_an_answer_to_nothing_ends_the_connection(
    redis: ProcessService, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(redis.url) as link:
        wire = wire_of(link)
        wire._transport.write(pack("ECHO", "from nobody"))
        await until(lambda: link.generation == 2)
        assert "answer to nothing" in caplog.text
        await works(link)


async def test_garbage_ends_the_connection(redis: ProcessService) -> None:
    async with linked(redis.url) as link:
        redis.pause()
        caller = asyncio.create_task(link.call("PING"))
        wire = wire_of(link)
        await until(lambda: wire.waiting == 1 and not wire._out)
        wire.data_received(b"!!! this is not Redis\r\n")
        redis.resume()
        with pytest.raises(BrokerUnreachable, match="does not answer as Redis does"):
            await caller
        await works(link)


async def test_demoted_to_a_replica(redis: ProcessService) -> None:
    """It stays connected and refuses writes: only connecting anew finds the new master."""
    async with linked(redis.url) as link:
        ask_redis(redis.place, "REPLICAOF", "127.0.0.1", "1")
        try:
            with pytest.raises(BrokerUnreachable, match="READONLY"):
                await link.call("SET", "k", "v")
            await until_why(link, "read-only replica")
        finally:
            ask_redis(redis.place, "REPLICAOF", "NO", "ONE")
        await works(link)


async def test_demoted_as_redis_6_says_it_of_a_script(redis: ProcessService) -> None:
    hidden = "ERR Error running script (call to f_x): @user_script:19: @user_script: 19: -READONLY You can not write."
    async with linked(redis.url) as link:
        with pytest.raises(BrokerUnreachable, match="failover"):
            await link.call("EVAL", "return redis.error_reply(ARGV[1])", 0, hidden)
        await until(lambda: link.up and link.generation == 2)


async def test_a_new_password_is_a_refusal_while_it_lasts(redis: ProcessService) -> None:
    async with linked(redis.url) as link:
        ask_redis(redis.place, "CONFIG", "SET", "requirepass", "changed")
        try:
            wire_of(link).abort("for a test")
            await until_why(link, "password", BrokerRefused)
        finally:
            ask_redis(redis.place, "CONFIG", "SET", "requirepass", "", password="changed")
        await works(link)


async def test_every_command_is_answered_once_through_a_storm(proxy: FaultProxy, redis: ProcessService) -> None:
    ask_redis(redis.place, "DEL", "storm")
    counts: list[int] = []
    outcomes: list[Any] = []
    sure: set[int] = set()

    def then(number: int) -> Any:
        def answered(reply: Any) -> None:
            counts[number] += 1
            outcomes[number] = reply
            if isinstance(reply, int):
                sure.add(number)

        return answered

    async with behind(proxy, redis) as link:
        end = time.monotonic() + 2
        next_reset = time.monotonic() + 0.1
        # A storm on a busy machine is longer: each connection gets its tenth of a second.
        while time.monotonic() < end or len(sure) <= 1000:
            number = len(counts)
            counts.append(0)
            outcomes.append(None)
            try:
                link.post(pack("RPUSH", "storm", number), then(number))
            except BrokerUnreachable as error:
                then(number)(error)
                await asyncio.sleep(0.001)
            if number % 20 == 0:
                await asyncio.sleep(0)
            if time.monotonic() > next_reset:
                proxy.reset()
                next_reset = time.monotonic() + 0.1
        proxy.heal()
        await works(link)
        await until(lambda: all(counts))
        stored = {int(one) for one in await link.call("LRANGE", "storm", 0, -1)}
    assert set(counts) == {1}
    never = {number for number, outcome in enumerate(outcomes) if type(outcome) is BrokerUnreachable}
    assert sure <= stored
    assert not never & stored


async def test_a_flapping_server_is_not_hammered(proxy: FaultProxy, redis: ProcessService) -> None:
    async with behind(proxy, redis) as link:
        before, end = proxy.accepted, time.monotonic() + 2
        while time.monotonic() < end:
            proxy.reset()
            await asyncio.sleep(0.005)
        assert proxy.accepted - before < 15
        await works(link)


async def test_listeners_that_fail_harm_nobody(redis: ProcessService, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async with linked(redis.url) as link:
        link.on_event(broken)
        events = events_of(link)
        wire_of(link).abort("for a test")
        await works(link)
        assert events == [(LOST, 1), (RESTORED, 2)]
    assert "a bug" in caplog.text


async def test_nobody_there() -> None:
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1: .*refused") as caught:
        await make_driver("redis://127.0.0.1:1/0").backend.open()
    assert caught.value.__cause__ is not None


async def test_nobody_answers(proxy: FaultProxy, redis: ProcessService) -> None:
    proxy.blackhole()
    backend = make_driver(proxy.url_for(redis.url), connect_timeout=0.3).backend
    begin = time.monotonic()
    with pytest.raises(BrokerUnreachable):
        await backend.open()
    assert time.monotonic() - begin < 5
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_no_such_host() -> None:
    with pytest.raises(BrokerUnreachable, match=r"no-such-host\.invalid:6379"):
        await make_driver("redis://no-such-host.invalid:6379/0").backend.open()
