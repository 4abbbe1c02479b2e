"""What became of messages whose answer was lost: found out, in every order in which things can go wrong."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
from link_kit import server, wire_of
from redis_context import eventually
from submit_kit import HOUR, NORMAL, Ports, ids_of, message, messages, ports, raw
from tap import Tap

from tranship.envelope import Receipt
from tranship.errors import BrokerRefused, BrokerUnreachable, ClosedError, StorageFull, SubmitUnknown
from tranship.testing.proxy import FaultProxy
from tranship.testing.services import ProcessService, Service
from tranship_redis import _journal
from tranship_redis._errors import Lost

Q = b"q" + NORMAL


@pytest.fixture
async def tap(redis_service: Service) -> AsyncIterator[Tap]:
    raw(redis_service.url, "FLUSHALL")
    async with Tap(redis_service.url) as made:
        yield made


@pytest.fixture
async def redis(tap: Tap) -> AsyncIterator[Ports]:
    """Connected through the tap; it has submitted something before."""
    async with ports(tap.url) as made:
        await made.submitter.submit([message(queue="earlier")])
        yield made


@pytest.fixture(params=["experienced", "fresh"])
async def either(tap: Tap, request: pytest.FixtureRequest) -> AsyncIterator[Ports]:
    """The same, and one that has never submitted anything."""
    async with ports(tap.url) as made:
        if request.param == "experienced":
            await made.submitter.submit([message(queue="earlier")])
        yield made


def journal_of(redis: Ports) -> _journal.SubmitJournal:
    """What is known of the batches of the connection that is there now."""
    return redis.driver.backend._supervisor.current.queue._journal


async def begin(redis: Ports, sent: list) -> asyncio.Future[list]:
    """Start a submit and wait until all of it has been posted."""
    journal = journal_of(redis)
    before = journal._number
    call: asyncio.Future[list] = asyncio.get_running_loop().create_future()
    redis.submitter.post(sent, call.set_result)
    await eventually(lambda: journal._number >= before + -(-len(sent) // 250), "it is posted")
    await asyncio.sleep(0)
    return call


async def stored(redis: Ports) -> list[str]:
    await eventually(lambda: redis.link.up, "it is connected", within=20)
    return await redis.ids_in(Q)


def receipts(sent: list) -> list[Receipt]:
    return [Receipt(task_id) for task_id in ids_of(sent)]


def all_unreachable(answers: list) -> bool:
    return {type(answer) for answer in answers} == {BrokerUnreachable}


class TestTheAnswerIsLost:
    async def test_but_the_messages_are_there(self, either: Ports, tap: Tap) -> None:
        redis = either
        sent = messages(600)
        tap.mute()
        call = await begin(redis, sent)
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 600, "the server has them")
        tap.cut()
        assert await asyncio.wait_for(call, 10) == receipts(sent)
        assert await stored(redis) == ids_of(sent)

    async def test_with_what_was_special(self, redis: Ports, tap: Tap) -> None:
        await redis.call("SET", b"bad" + NORMAL, "no list")
        holder = message(dedup_key="k")
        await redis.submitter.submit([holder])
        sent = [
            message(),
            message(dedup_key="k"),
            message(queue="bad"),
            message(check_id=True),
            message(not_before=time.time() + HOUR),
        ]
        sent.append(sent[3])
        tap.mute()
        call = await begin(redis, sent)
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 3, "the server has them")
        tap.cut()
        plain, duplicate, bad, checked, delayed, again = await asyncio.wait_for(call, 10)
        ids = ids_of(sent)
        assert [plain, checked, delayed] == [Receipt(ids[0]), Receipt(ids[3]), Receipt(ids[4])]
        assert duplicate == Receipt(ids[1], duplicate_of=holder.envelope.id)
        assert again == Receipt(ids[3], duplicate_of=ids[3])
        assert isinstance(bad, BrokerRefused)
        assert "'bad'" in str(bad)

    async def test_several_batches_with_exceptions(self, redis: Ports, tap: Tap) -> None:
        batches = [[message(), *(message(dedup_key=f"k{number}") for _ in range(3))] for number in range(5)]
        tap.mute()
        calls = [await begin(redis, batch) for batch in batches]
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 10, "the server has them")
        tap.cut()
        for call, batch in zip(calls, batches, strict=True):
            plain, first, *twins = await asyncio.wait_for(call, 10)
            assert [plain, first] == receipts(batch[:2])
            assert [twin.duplicate_of for twin in twins] == [first.id, first.id]
        await redis.submitter.submit(messages(1))
        assert (await redis.call("GET", journal_of(redis).key)).endswith(b":")  # forgotten once answered

    async def test_the_answer_to_the_question_is_lost_too(self, redis: Ports, tap: Tap) -> None:
        sent = messages(10)
        tap.mute()
        call = await begin(redis, sent)
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 10, "the server has them")
        for _ in range(2):
            tap.needle = _journal._RESUME.sha
            tap.cut()
            await eventually(lambda: not tap.needle, "the question was asked")
        assert await asyncio.wait_for(call, 20) == receipts(sent)
        assert await stored(redis) == ids_of(sent)
        assert await redis.submitter.submit(sent[:1]) == receipts(sent[:1])

    async def test_the_connection_is_given_up_again_right_after_the_question(self, redis: Ports, tap: Tap) -> None:
        failures = 2

        async def fail() -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise BrokerUnreachable("another hook has failed")

        redis.link.on_up(fail)
        sent = messages(10)
        tap.mute()
        call = await begin(redis, sent)
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 10, "the server has them")
        tap.cut()
        assert await asyncio.wait_for(call, 20) == receipts(sent)
        await eventually(lambda: redis.link.up, "it is back")
        more = messages(3)
        assert await redis.submitter.submit(more) == receipts(more)
        assert await stored(redis) == ids_of(sent + more)


class TestTheMessagesAreLost:
    async def test_all_of_them(self, either: Ports, tap: Tap) -> None:
        redis = either
        tap.hold()
        call = await begin(redis, messages(600))
        tap.cut()
        assert all_unreachable(await asyncio.wait_for(call, 10))
        assert await stored(redis) == []

    async def test_late_bytes_are_shut_out(self, either: Ports, tap: Tap) -> None:
        redis = either
        pipes = tap.hold()
        sent = [*messages(600), message(check_id=True), message(dedup_key="k"), message(not_before=time.time() + HOUR)]
        call = await begin(redis, sent)
        assert pipes[0].held is not None
        await eventually(lambda: len(pipes[0].held or b"") > 600 * 800, "all of it is under way")
        tap.cut()
        assert all_unreachable(await asyncio.wait_for(call, 10))
        executed = _calls(tap)
        for pipe in pipes:
            pipe.release()
        await eventually(lambda: _calls(tap) >= executed + 3, "the late bytes have been handled")
        assert await stored(redis) == []
        assert raw(tap.target, "KEYS", "tranship:de*") == []
        assert await redis.submitter.submit(sent) == receipts(sent)
        assert await redis.call("LLEN", Q) == 602

    async def test_the_second_half(self, redis: Ports, tap: Tap) -> None:
        first, second = messages(500), messages(500)
        tap.mute()
        calls = [await begin(redis, first)]
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 500, "the server has the first half")
        pipes = tap.hold()
        calls.append(await begin(redis, second))
        tap.cut()
        answers = [await asyncio.wait_for(call, 10) for call in calls]
        assert answers[0] == receipts(first)
        assert all_unreachable(answers[1])
        for pipe in pipes:
            pipe.release()
        again = messages(1)
        assert await redis.submitter.submit(again) == receipts(again)
        assert await stored(redis) == ids_of(first + again)

    async def test_what_is_given_up_in_the_moment_it_leaves(self, redis: Ports, tap: Tap) -> None:
        """It has left or not, and who submits is told which."""
        call = asyncio.create_task(redis.submitter.submit(messages(10)))
        await asyncio.sleep(0)
        wire_of(redis.link).abort("for a test")
        answers = await asyncio.wait_for(call, 10)
        assert {type(answer) for answer in answers} <= {Receipt, BrokerUnreachable}
        assert await stored(redis) == [answer.id for answer in answers if isinstance(answer, Receipt)]


class TestTheServer:
    async def test_comes_back_with_its_data(self, redis: Ports, tap: Tap, redis_service: Service) -> None:
        sent = messages(600)
        tap.mute()
        call = await begin(redis, sent)
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 600, "the server has them")
        redis_service.kill()
        redis_service.start()
        assert await asyncio.wait_for(call, 20) == receipts(sent)
        assert await stored(redis) == ids_of(sent)

    async def test_comes_back_without_data(self) -> None:
        with server("--appendonly", "no") as forgetful:
            async with Tap(forgetful.url) as tap, ports(tap.url) as redis:
                await redis.submitter.submit(messages(3))
                tap.mute()
                call = await begin(redis, messages(600))
                await eventually(lambda: raw(tap.target, "LLEN", Q) == 603, "the server has them")
                forgetful.kill()
                forgetful.start()
                assert all_unreachable(await asyncio.wait_for(call, 20))
                sent = messages(2)
                assert await redis.submitter.submit(sent) == receipts(sent)
                assert await stored(redis) == ids_of(sent)

    async def test_is_flushed_while_the_answer_is_under_way(self, redis: Ports, tap: Tap) -> None:
        tap.mute()
        call = await begin(redis, messages(600))
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 600, "the server has them")
        raw(tap.target, "FLUSHALL")
        tap.cut()
        assert all_unreachable(await asyncio.wait_for(call, 10))
        sent = messages(600)
        assert await redis.submitter.submit(sent) == receipts(sent)

    async def test_is_flushed_between_submits(self, redis: Ports) -> None:
        for _ in range(3):
            await redis.call("FLUSHALL")
            sent = messages(600)
            assert await redis.submitter.submit(sent) == receipts(sent)

    async def test_has_forgotten_the_scripts(self, redis: Ports) -> None:
        sent: list = []
        got: list = []
        for _ in range(20):
            batches = [messages(300) for _ in range(4)]
            calls = [asyncio.create_task(redis.submitter.submit(batch)) for batch in batches]
            await asyncio.sleep(0)
            await redis.call("SCRIPT", "FLUSH")
            for call, batch in zip(calls, batches, strict=True):
                sent += batch
                got += await asyncio.wait_for(call, 10)
        assert {type(answer) for answer in got} <= {Receipt, BrokerUnreachable}
        confirmed = [answer.id for answer in got if isinstance(answer, Receipt)]
        assert len(confirmed) > len(sent) / 2
        assert sorted(await stored(redis)) == sorted(confirmed)

    async def test_has_no_memory_for_the_question(
        self, redis: Ports, tap: Tap, caplog: pytest.LogCaptureFixture
    ) -> None:
        sent = messages(10)
        tap.mute()
        call = await begin(redis, sent)
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 10, "the server has them")
        raw(tap.target, "CONFIG", "SET", "maxmemory", "1kb")
        try:
            tap.cut()
            await eventually(lambda: redis.link.up and redis.link.generation == 2, "it is back")
            (refused,) = await redis.submitter.submit(messages(1))
            assert isinstance(refused, StorageFull)
            assert not call.done()
            await asyncio.sleep(0.7)  # asked in vain at least once more
            assert not call.done()
        finally:
            raw(tap.target, "CONFIG", "SET", "maxmemory", "0")
        assert await asyncio.wait_for(call, 10) == receipts(sent)
        assert caplog.text.count("what became of") == 1
        more = messages(2)
        assert await redis.submitter.submit(more) == receipts(more)
        assert await stored(redis) == ids_of(sent + more)

    async def test_no_memory_stops_what_is_behind(self, redis: Ports) -> None:
        await redis.call("CONFIG", "SET", "maxmemory", "1kb")
        calls = [await begin(redis, messages(600)) for _ in range(3)]
        answers = [answer for call in calls for answer in await call]
        await redis.call("CONFIG", "SET", "maxmemory", "0")
        assert {type(answer) for answer in answers} == {StorageFull}
        assert await stored(redis) == []

    async def test_had_no_memory_for_a_moment_while_something_is_always_under_way(self, redis: Ports, tap: Tap) -> None:
        got: list = []

        def post() -> None:
            redis.submitter.post(messages(1), answered)

        def answered(answers: list) -> None:
            got.extend(answers)
            if len(got) == 1:
                raw(tap.target, "CONFIG", "SET", "maxmemory", "0")
            if len(got) < 20:
                post()

        raw(tap.target, "CONFIG", "SET", "maxmemory", "1kb")
        for _ in range(3):
            post()
        await eventually(lambda: len(got) >= 20, "all are answered")
        assert [type(answer) for answer in got] == [StorageFull] * 3 + [Receipt] * (len(got) - 3)

    async def test_what_was_refused_is_not_taken_for_stored_because_of_what_came_behind(
        self, redis: Ports, tap: Tap, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers: list = []
        channel = journal_of(redis)._channel
        post_script = channel.post_script
        monkeypatch.setattr(
            channel,
            "post_script",
            lambda script, data, then: post_script(script, data, lambda reply: answers.append((then, reply))),
        )
        full, behind, later = messages(3)
        got: dict = {}
        raw(tap.target, "CONFIG", "SET", "maxmemory", "1kb")
        for one in (full, behind):
            redis.submitter.post([one], partial(got.__setitem__, one.envelope.id))
        await eventually(lambda: len(answers) == 2, "both are refused")
        raw(tap.target, "CONFIG", "SET", "maxmemory", "0")
        then, reply = answers[0]
        then(reply)
        redis.submitter.post([later], partial(got.__setitem__, later.envelope.id))
        await eventually(lambda: len(answers) == 3, "the last one is stored")
        monkeypatch.undo()
        for then, _ in answers[1:]:
            then(Lost("the connection has gone"))
        await eventually(lambda: len(got) == 3, "it is found out")
        assert [type(got[one][0]) for one in ids_of([full, behind, later])] == [
            StorageFull,
            BrokerUnreachable,
            Receipt,
        ]
        assert await stored(redis) == ids_of([later])


class TestNobodyWillKnow:
    async def test_closed_before_the_answer(self, tap: Tap) -> None:
        async with ports(tap.url) as redis:
            tap.hold()
            sent = messages(300)
            call = await begin(redis, sent)
            await redis.driver.backend.aclose()
            answers = await asyncio.wait_for(call, 5)
        assert {type(answer) for answer in answers} == {SubmitUnknown}
        assert [answer.task_id for answer in answers] == ids_of(sent)

    async def test_closed_before_it_was_found_out(self, tap: Tap) -> None:
        async with ports(tap.url) as redis:
            tap.hold()
            call = await begin(redis, messages(300))
            tap._server.close()
            tap.cut()
            await eventually(lambda: not redis.link.up, "the loss is noticed")
            await redis.driver.backend.aclose()
            answers = await asyncio.wait_for(call, 5)
            with pytest.raises(ClosedError):
                await redis.submitter.submit(messages(1))
        assert {type(answer) for answer in answers} == {SubmitUnknown}

    async def test_gone_for_longer_than_the_journal_is_kept(self, redis: Ports, tap: Tap) -> None:
        tap.mute()
        call = await begin(redis, messages(3))
        await eventually(lambda: raw(tap.target, "LLEN", Q) == 3, "the server has them")
        journal = journal_of(redis)
        raw(tap.target, "DEL", journal.key)  # as if it had expired
        journal._under_way = {one: (batch, at - HOUR) for one, (batch, at) in journal._under_way.items()}
        tap.cut()
        answers = await asyncio.wait_for(call, 10)
        assert {type(answer) for answer in answers} == {SubmitUnknown}
        assert await redis.submitter.submit(messages(1))


class TestTheScript:
    """The rules of the marker, on the server, command by command."""

    @pytest.fixture
    async def run(self, redis_service: Service) -> AsyncIterator:
        raw(redis_service.url, "FLUSHALL")
        async with ports(redis_service.url) as redis:

            async def run(epoch: int, number: int, before: int, answered: int, *steps: bytes | int) -> object:
                steps = steps or (b"push", b"list", 1, b"%d" % number)
                return await redis.link.run(
                    _journal._SUBMIT, [b"marker"], [f"{epoch}:{before}:", f"{epoch}:{number}:", answered, 60000, *steps]
                )

            run.call = redis.call
            yield run

    async def test_applied_in_order(self, run) -> None:
        assert [await run(1, number, number - 1, 0) for number in (1, 2, 3)] == [1, 1, 1]
        assert await run.call("GET", "marker") == b"1:3:"
        assert 50000 < await run.call("PTTL", "marker") <= 60000

    async def test_not_behind_a_gap(self, run) -> None:
        assert await run(1, 1, 0, 0) == 1
        assert await run(1, 3, 2, 1) == 0
        assert await run(1, 4, 3, 1) == 0
        assert await run(1, 5, 1, 1) == 1
        assert await run.call("LRANGE", "list", 0, -1) == [b"5", b"1"]

    async def test_not_behind_the_first_that_never_came(self, run) -> None:
        assert await run(1, 2, 1, 0) == 0
        assert await run.call("EXISTS", "list", "marker") == 0

    async def test_not_from_an_earlier_epoch(self, run) -> None:
        await run.call("SET", "marker", "2:7:")
        assert await run(1, 8, 7, 7) == 0
        assert await run(2, 8, 7, 7) == 1

    async def test_whatever_the_marker_holds_when_nothing_is_under_way(self, run) -> None:
        for odd in ("", "garbage", "1:3:", "1:99:"):
            await run.call("SET", "marker", odd)
            assert await run(1, 8, 7, 7) == 1

    async def test_exceptions_are_kept_until_they_are_answered(self, run) -> None:
        await run.call("SET", "bad", "no list")
        bad = (b"push", b"list", 1, b"x", b"push", b"bad", 2, b"y", b"z")
        error = b'[[1,"e","WRONGTYPE Operation against a key holding the wrong kind of value [LPUSH bad]"]]'
        assert await run(1, 1, 0, 0, *bad) == error
        assert await run(1, 2, 1, 0) == 1
        assert await run(1, 3, 2, 0, *bad) == error
        assert await run.call("GET", "marker") in {
            b'1:3:{"1":%b,"3":%b}' % (error, error),
            b'1:3:{"3":%b,"1":%b}' % (error, error),
        }
        assert await run(1, 4, 3, 1) == 1
        assert await run.call("GET", "marker") == b'1:4:{"3":%b}' % error
        assert await run(1, 5, 4, 4) == 1
        assert await run.call("GET", "marker") == b"1:5:"

    async def test_the_question_keeps_what_it_was_not_asked_for(self, run) -> None:
        await run.call("SET", "marker", '3:7:{"7":[[0,"d","x"]]}')
        resume = _journal._RESUME
        assert await run.call("EVALSHA", resume.sha, 1, "marker", 4, 1000) == b'3:7:{"7":[[0,"d","x"]]}'
        assert await run.call("GET", "marker") == b'4:7:{"7":[[0,"d","x"]]}'
        await run.call("DEL", "marker")
        assert await run.call("EVALSHA", resume.sha, 1, "marker", 5, 1000) is None
        assert await run.call("GET", "marker") == b"5:0:"


class TestChaos:
    async def test_a_thousand_submits_through_kills(self) -> None:
        """Each message is submitted once. Who gets a receipt finds it there, once; who does not never does."""
        with server() as service, FaultProxy("127.0.0.1", service.place.port) as proxy:
            async with ports(proxy.url_for(service.url), command_timeout=0.5, keepalive=0.2) as redis:
                trouble = asyncio.create_task(_make_trouble(service, proxy))
                answers = await asyncio.wait_for(_submit_singly(redis, trouble), 90)
                proxy.heal()
                found = await stored(redis)
        receipts = {task_id for task_id, answer in answers.items() if isinstance(answer, Receipt)}
        assert {type(answer) for answer in answers.values()} == {Receipt, BrokerUnreachable}
        assert len(found) == len(set(found)), "a message came twice"
        assert set(found) == receipts
        assert len(receipts) >= 1000

    async def test_the_same_messages_until_each_is_there(self) -> None:
        """As the core does it: what is unreachable is submitted again, with check_id, until it is there."""
        with server() as service, FaultProxy("127.0.0.1", service.place.port) as proxy:
            async with ports(proxy.url_for(service.url), command_timeout=0.5, keepalive=0.2) as redis:
                trouble = asyncio.create_task(_make_trouble(service, proxy))
                sent = messages(1000)
                async with asyncio.timeout(90):
                    await asyncio.gather(*(_insist(redis, sent[start::10]) for start in range(10)))
                    await trouble
                proxy.heal()
                assert sorted(await stored(redis)) == sorted(ids_of(sent))


async def _submit_singly(redis: Ports, trouble: asyncio.Task) -> dict:
    answers: dict = {}

    async def go_on(worker: int) -> None:
        while not trouble.done() or sum(isinstance(answer, Receipt) for answer in answers.values()) < 1000:
            batch = messages(random.choice((1, 1, 3, 40)))
            got = await redis.submitter.submit(batch)
            answers.update(zip(ids_of(batch), got, strict=True))
            await asyncio.sleep(0.02 if isinstance(got[0], Receipt) else 0.1)

    await asyncio.gather(*map(go_on, range(6)))
    await trouble
    return answers


async def _insist(redis: Ports, sent: list) -> None:
    for start in range(0, len(sent), 5):
        left = sent[start : start + 5]
        while left:
            answers = await redis.submitter.submit(left)
            assert {type(answer) for answer in answers} <= {Receipt, BrokerUnreachable}
            left = [one for one, answer in zip(left, answers, strict=True) if not isinstance(answer, Receipt)]
            for one in left:
                one.check_id = True
            await asyncio.sleep(0.05 if left else 0.02)


async def _make_trouble(service: ProcessService, proxy: FaultProxy) -> None:
    def kill() -> None:
        service.kill()
        service.start()

    def pause() -> None:
        service.pause()
        time.sleep(random.uniform(0.05, 0.9))
        service.resume()

    def black() -> None:
        proxy.blackhole()
        time.sleep(random.uniform(0.05, 0.9))
        proxy.blackhole(False)

    for number in range(24):
        await asyncio.sleep(random.uniform(0.05, 0.3))
        what = (proxy.reset, kill, proxy.half_close, pause, black, proxy.reset)[number % 6]
        await asyncio.to_thread(what)


def _calls(tap: Tap) -> int:
    """How many scripts the server has been asked to run."""
    stats = raw(tap.target, "INFO", "commandstats").decode()
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in stats.splitlines() if "_evalsha:" in line)
