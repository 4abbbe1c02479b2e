"""The submitter on a real server: what is stored, what is said of it, and what it costs the neighbours."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import pytest
from redis_context import eventually, shut
from submit_kit import ENCODER, HOUR, NORMAL, Ports, ids_of, message, messages, ports, raw, result

from tranship.envelope import Envelope, Priority, Receipt
from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    ClosedError,
    InvalidOptionError,
    MessageTooLarge,
    StorageFull,
)
from tranship.protocol import Message
from tranship.testing.services import Service
from tranship_redis._element import read

Q = b"q" + NORMAL


@pytest.fixture
async def redis(redis_service: Service) -> AsyncIterator[Ports]:
    raw(redis_service.url, "FLUSHALL")
    async with ports(redis_service.url) as made:
        yield made


def taken(key: str) -> str:
    """The name under which a dedup key is taken."""
    return f"tranship:dedup:{hashlib.sha256(key.encode()).hexdigest()}"


def large(size: int) -> Message:
    made = message()
    return Message(made.envelope, made.headers, b"x" * size, "application/data", "binary")


class TestStoring:
    async def test_what_is_stored_is_what_was_sent(self, redis: Ports) -> None:
        sent = message(args=("caf\u00e9",), reply_to="me")
        assert await redis.submitter.submit([sent]) == [Receipt(sent.envelope.id)]
        (element,) = await redis.call("LRANGE", Q, 0, -1)
        got = read(element)
        assert (got.headers, got.body, got.content_type) == (sent.headers, sent.body, sent.content_type)
        assert got.properties["reply_to"] == "me"
        assert got.properties["delivery_info"] == {"exchange": "", "routing_key": "q"}
        assert abs(got.properties["timestamp"] - time.time()) < 60

    async def test_messages_of_a_kind_are_stored_like_any_other(self, redis: Ports) -> None:
        """Among others, in order, with those that are too large or may be there already answered one by one."""
        kinds = [object(), object(), None]
        sent = [
            ENCODER.encode(Envelope(id=f"id-{number}", task="t", args=(number,), queue="q"), kinds[number // 3 % 3])
            for number in range(60)
        ]
        sent[20].body = b"x" * (redis.submitter.max_message_size + 1)
        sent[30].check_id = True
        await redis.call("SET", redis.ctx.keys.known("id-30"), "1")
        for _ in range(2):
            answers = await redis.submitter.submit(sent)
            wanted: list[object] = [Receipt(one.envelope.id) for one in sent]
            assert isinstance(answers[20], MessageTooLarge)
            assert answers[20].task_id == "id-20"
            wanted[20], wanted[30] = answers[20], Receipt("id-30", duplicate_of="id-30")
            assert list(answers) == wanted
        kept = [one for one in sent if one.envelope.id not in ("id-20", "id-30")]
        elements = [read(element) for element in reversed(await redis.call("LRANGE", Q, 0, -1))]
        assert [(one.headers, one.body) for one in elements] == [(one.headers, one.body) for one in kept] * 2
        assert len({one.properties["delivery_tag"] for one in elements}) == len(elements)

    async def test_each_level_has_its_list(self, redis: Ports) -> None:
        sent = [message(priority=level, queue=queue) for level in Priority for queue in ("q", "r")]
        answers = await redis.submitter.submit(sent)
        assert answers == [Receipt(one.envelope.id) for one in sent]
        for one in sent:
            assert one.envelope.id in await redis.ids_in(
                redis.ctx.levels.key(one.envelope.queue, one.envelope.priority)
            )

    async def test_order_is_kept_over_batches_and_between_kinds(self, redis: Ports) -> None:
        sent = messages(700)
        for index in range(0, 700, 7):
            sent[index] = message(check_id=True)
        for index in range(3, 700, 50):
            sent[index] = message(dedup_key=f"key-{index}")
        assert await redis.submitter.submit(sent) == [Receipt(task_id) for task_id in ids_of(sent)]
        assert await redis.ids_in(Q) == ids_of(sent)

    async def test_batches_are_limited_in_bytes(self, redis: Ports) -> None:
        sent = [large(400_000) for _ in range(12)]
        assert await redis.submitter.submit(sent) == [Receipt(task_id) for task_id in ids_of(sent)]
        assert await redis.ids_in(Q) == ids_of(sent)
        assert redis.driver.backend._supervisor.current.queue._journal._number == 6

    async def test_others_run_between_batches(self, redis: Ports) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        await redis.submitter.submit(messages(2500))
        ticking.cancel()
        assert ticks >= 9
        assert await redis.call("LLEN", Q) == 2500

    async def test_tags_are_unique(self, redis: Ports) -> None:
        await redis.submitter.submit(messages(600))
        elements = await redis.call("LRANGE", Q, 0, -1)
        assert len({read(element).properties["delivery_tag"] for element in elements}) == 600

    async def test_nothing_is_nothing(self, redis: Ports) -> None:
        assert await redis.submitter.submit([]) == []

    async def test_concurrent_calls_get_their_own_answers(self, redis: Ports) -> None:
        batches = [messages(10) for _ in range(50)]
        answers = await asyncio.gather(*map(redis.submitter.submit, batches))
        assert [[one.id for one in part] for part in answers] == [ids_of(batch) for batch in batches]
        assert await redis.call("LLEN", Q) == 500

    async def test_a_cancelled_call_harms_nobody(self, redis: Ports) -> None:
        call = asyncio.create_task(redis.submitter.submit(messages(600)))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        (sent,) = messages(1)
        assert await redis.submitter.submit([sent]) == [Receipt(sent.envelope.id)]

    async def test_queues_are_registered_once_per_connection(self, redis: Ports) -> None:
        await redis.submitter.submit([message(queue="a"), message(queue="b", not_before=time.time() + HOUR)])
        assert sorted(await redis.call("SMEMBERS", "tranship:queues")) == [b"a", b"b"]
        await redis.call("DEL", "tranship:queues")
        await redis.submitter.submit([message(queue="a"), message(queue="c")])
        assert list(await redis.call("SMEMBERS", "tranship:queues")) == [b"c"]

    async def test_a_namespace_is_in_front_of_everything(self, redis_service: Service) -> None:
        raw(redis_service.url, "FLUSHALL")
        async with ports(redis_service.url, namespace="n") as redis:
            sent = [message(), message(check_id=True), message(dedup_key="k"), message(not_before=time.time() + HOUR)]
            await redis.submitter.submit(sent)
            assert all(name.startswith(b"n:") for name in await redis.call("KEYS", "*"))


class TestRefusing:
    async def test_too_large_alone(self, redis_service: Service) -> None:
        raw(redis_service.url, "FLUSHALL")
        async with ports(redis_service.url, max_message_size=1000) as redis:
            assert redis.submitter.max_message_size == 1000
            sent = [message(), large(1001), message()]
            first, refused, last = await redis.submitter.submit(sent)
            assert isinstance(refused, MessageTooLarge)
            assert (refused.limit, refused.size, refused.task_id) == (1000, sent[1].size, sent[1].envelope.id)
            assert [first.id, last.id] == await redis.ids_in(Q)
            (alone,) = await redis.submitter.submit([large(1001)])
            assert isinstance(alone, MessageTooLarge)

    async def test_names_that_cannot_be_written(self, redis: Ports) -> None:
        sent = [message(), message(queue="\ud800"), message()]
        first, queue, last = await redis.submitter.submit(sent)
        assert isinstance(queue, InvalidOptionError)
        assert queue.task_id == sent[1].envelope.id
        assert [first.id, last.id] == await redis.ids_in(Q)

    async def test_a_queue_that_no_worker_could_serve(self, redis: Ports) -> None:
        sent = [message(), message(queue="q\0x"), message()]
        answers = await redis.submitter.submit(sent)
        assert isinstance(answers[1], InvalidOptionError)
        assert answers[1].task_id == sent[1].envelope.id
        assert await redis.ids_in(Q) == [sent[0].envelope.id, sent[2].envelope.id]

    async def test_a_list_that_is_none_harms_its_own_messages_only(self, redis: Ports) -> None:
        await redis.call("SET", b"bad" + NORMAL, "text")
        sent = [message(), message(queue="bad"), message(queue="bad", dedup_key="k", check_id=True), message()]
        first, refused, special, last = await redis.submitter.submit(sent)
        for error in (refused, special):
            assert isinstance(error, BrokerRefused)
            assert "'bad'" in str(error)
        assert special.task_id == sent[2].envelope.id
        assert await redis.ids_in(Q) == [first.id, last.id]
        assert await redis.call("KEYS", "tranship:dedup:*") == []
        assert await redis.call("EXISTS", f"tranship:known:{sent[2].envelope.id}") == 0
        assert await redis.submitter.submit([sent[2]]) != [Receipt(sent[2].envelope.id)]

    async def test_a_list_this_user_may_not_touch(self, redis: Ports) -> None:
        await redis.call("ACL", "SETUSER", "some", "on", ">pw", "+@all", "&*", "~q*", "~tranship:*")
        url = redis.ctx.url.replace("redis://", "redis://some:pw@")
        try:
            async with ports(url) as limited:
                first, refused, last = await limited.submitter.submit([message(), message(queue="other"), message()])
        finally:
            await redis.call("ACL", "DELUSER", "some")
        assert isinstance(refused, BrokerRefused)
        assert "'other'" in str(refused)
        assert await redis.ids_in(Q) == [first.id, last.id]

    @pytest.mark.parametrize("command", ["set", "get", "lpush", "exists", "zadd", "hset", "evalsha"])
    async def test_who_may_not_do_everything_does_nothing_half(self, redis: Ports, command: str) -> None:
        sent = [
            message(),
            message(check_id=True),
            message(dedup_key="k"),
            message(not_before=time.time() + HOUR, check_id=True, dedup_key="l"),
        ]
        await redis.call("ACL", "SETUSER", "some", "on", ">pw", "~*", "&*", "+@all", f"-{command}")
        try:
            async with ports(redis.ctx.url.replace("redis://", "redis://some:pw@")) as limited:
                answers = await limited.submitter.submit(sent)
        finally:
            await redis.call("ACL", "DELUSER", "some")
        refused = [one for one, answer in zip(sent, answers, strict=True) if isinstance(answer, BrokerRefused)]
        assert refused
        assert all(answer == Receipt(answer.id) for answer in answers if not isinstance(answer, BrokerRefused))
        assert sorted([*await redis.ids_in(Q), *_texts(await redis.call("ZRANGE", "tranship:delayed:q", 0, -1))]) == (
            sorted(ids_of([one for one in sent if one not in refused]))
        )
        assert await redis.submitter.submit(refused) == [Receipt(task_id) for task_id in ids_of(refused)]

    async def test_no_memory(self, redis: Ports) -> None:
        await redis.submitter.submit(messages(1))
        await redis.call("CONFIG", "SET", "maxmemory", "1mb")
        try:
            sent = [*messages(600), message(check_id=True)]
            answers = await redis.submitter.submit(sent)
        finally:
            await redis.call("CONFIG", "SET", "maxmemory", "0")
        assert {type(answer) for answer in answers} == {StorageFull}
        assert [answer.task_id for answer in answers] == ids_of(sent)
        assert await redis.call("LLEN", Q) == 1
        assert await redis.submitter.submit(sent) == [Receipt(task_id) for task_id in ids_of(sent)]

    async def test_closed(self, redis: Ports) -> None:
        shut(redis.ctx)
        with pytest.raises(ClosedError):
            await redis.submitter.submit(messages(1))

    async def test_a_server_that_is_gone(self, redis_service: Service) -> None:
        async with ports(redis_service.url) as redis:
            redis_service.kill()
            await eventually(lambda: not redis.link.up, "the loss is noticed")
            sent = messages(300)
            answers = await redis.submitter.submit(sent)
            assert {type(answer) for answer in answers} == {BrokerUnreachable}
            redis_service.start()
            await eventually(lambda: redis.link.up, "it comes back")
            assert await redis.submitter.submit(sent) == [Receipt(task_id) for task_id in ids_of(sent)]


class TestCheckId:
    async def test_recognised_while_queued(self, redis: Ports) -> None:
        sent = message(check_id=True)
        known = Receipt(sent.envelope.id, duplicate_of=sent.envelope.id)
        assert await redis.submitter.submit([sent, sent]) == [Receipt(sent.envelope.id), known]
        assert await redis.submitter.submit([sent]) == [known]
        assert await redis.call("LLEN", Q) == 1
        ttl = await redis.call("TTL", f"tranship:known:{sent.envelope.id}")
        assert 86000 < ttl <= 86400

    async def test_recognised_by_its_result(self, redis: Ports) -> None:
        sent = message(check_id=True)
        await redis.results.put([result(sent.envelope.id, 1)])
        answers = await redis.submitter.submit([sent])
        assert answers == [Receipt(sent.envelope.id, duplicate_of=sent.envelope.id)]

    async def test_recognised_while_delayed(self, redis: Ports) -> None:
        due = time.time() + 10 * 86400
        sent = message(not_before=due)
        await redis.submitter.submit([sent])
        sent.check_id = True
        answers = await redis.submitter.submit([sent])
        assert answers == [Receipt(sent.envelope.id, duplicate_of=sent.envelope.id)]
        other = message(not_before=due, check_id=True)
        await redis.submitter.submit([other])
        assert await redis.call("TTL", f"tranship:known:{other.envelope.id}") > 10 * 86400

    async def test_forgotten_with_its_result(self, redis: Ports) -> None:
        sent = message(check_id=True)
        await redis.submitter.submit([sent])
        await redis.results.forget_many([sent.envelope.id])
        assert await redis.submitter.submit([sent]) == [Receipt(sent.envelope.id)]


class TestDedup:
    async def test_one_of_many(self, redis: Ports) -> None:
        first, twin, late = (message(dedup_key="k", dedup_window=60.0) for _ in range(3))
        duplicate = first.envelope.id
        assert await redis.submitter.submit([first, twin]) == [
            Receipt(duplicate),
            Receipt(twin.envelope.id, duplicate_of=duplicate),
        ]
        assert await redis.submitter.submit([late]) == [Receipt(late.envelope.id, duplicate_of=duplicate)]
        assert await redis.ids_in(Q) == [duplicate]
        assert 59000 < await redis.call("PTTL", taken("k")) <= 60000

    async def test_after_the_window(self, redis: Ports) -> None:
        await redis.submitter.submit([message(dedup_key="k", dedup_window=0.05)])

        async def free() -> bool:
            (answer,) = await redis.submitter.submit([message(dedup_key="k", dedup_window=60.0)])
            return answer.duplicate_of is None

        assert await eventually(free, "the key is free")

    async def test_no_window_at_all(self, redis: Ports) -> None:
        sent = [message(dedup_key="k", dedup_window=0.0) for _ in range(2)]
        assert await redis.submitter.submit(sent) == [Receipt(task_id) for task_id in ids_of(sent)]

    async def test_the_options_window(self, redis_service: Service) -> None:
        raw(redis_service.url, "FLUSHALL")
        async with ports(redis_service.url, dedup_window=7.0) as redis:
            await redis.submitter.submit([message(dedup_key="k")])
            assert 6000 < await redis.call("PTTL", taken("k")) <= 7000

    async def test_a_window_beyond_all_measure(self, redis: Ports) -> None:
        sent = message(dedup_key="k", dedup_window=1e300)
        assert await redis.submitter.submit([sent]) == [Receipt(sent.envelope.id)]

    async def test_a_key_held_by_something_else(self, redis: Ports) -> None:
        await redis.call("SET", taken("k"), b"\xff\xfe")
        await redis.call("LPUSH", taken("list"), "x")
        odd, wrong = await redis.submitter.submit([message(dedup_key="k"), message(dedup_key="list")])
        assert odd.duplicate_of == "\ufffd\ufffd"
        assert isinstance(wrong, BrokerRefused)
        assert await redis.call("LLEN", Q) == 0


class TestDelay:
    async def test_kept_until_it_is_due(self, redis: Ports) -> None:
        due = time.time() + HOUR
        sent = [message(not_before=due, priority=level) for level in Priority]
        assert await redis.submitter.submit(sent) == [Receipt(task_id) for task_id in ids_of(sent)]
        assert await redis.call("KEYS", "q*") == []
        for one, step in zip(sent, b"0369", strict=True):
            task_id = one.envelope.id
            assert float(await redis.call("ZSCORE", "tranship:delayed:q", task_id)) == due
            assert await redis.call("HGET", "tranship:delayed-queues", task_id) == b"q"
            kept = await redis.call("HGET", "tranship:delayed-messages:q", task_id)
            assert kept[0] == step
            assert read(kept[1:]).headers == one.headers

    async def test_due_already(self, redis: Ports) -> None:
        sent = message(not_before=time.time() - 1)
        await redis.submitter.submit([sent])
        assert await redis.ids_in(Q) == [sent.envelope.id]

    @pytest.mark.parametrize(
        ("celery", "declared", "kept"),
        [
            ("auto", False, True),
            ("auto", True, False),
            ("on", False, False),
            ("off", True, True),
            ("q", False, False),
            ("r", True, True),
        ],
    )
    async def test_with_celery_peers_celerys_way(
        self, redis_service: Service, celery: str, declared: bool, kept: bool
    ) -> None:
        raw(redis_service.url, "FLUSHALL")
        if declared:
            raw(redis_service.url, "SADD", "_kombu.binding.q", "q\x06\x16\x06\x16q")
        async with ports(redis_service.url, celery=celery) as redis:
            await redis.submitter.submit([message(not_before=time.time() + HOUR)])
            assert await redis.call("ZCARD", "tranship:delayed:q") == int(kept)
            assert await redis.call("LLEN", Q) == int(not kept)

    async def test_a_delayed_message_with_a_dedup_key(self, redis: Ports) -> None:
        sent = [message(not_before=time.time() + HOUR, dedup_key="k", check_id=True) for _ in range(2)]
        first, second = ids_of(sent)
        assert await redis.submitter.submit(sent) == [Receipt(first), Receipt(second, duplicate_of=first)]
        assert await redis.submitter.submit([sent[0]]) == [Receipt(first, duplicate_of=first)]
        assert await redis.call("ZCARD", "tranship:delayed:q") == 1


def _texts(values: list[bytes]) -> list[str]:
    return [value.decode() for value in values]
