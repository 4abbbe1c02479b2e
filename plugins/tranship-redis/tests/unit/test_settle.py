"""Settling: each verdict with everything that belongs to it, and nothing at all of what is not ours."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable

import msgpack
import pytest
from consumer_kit import KeySpace, counts, messages, settle, take
from redis_kit import Raw

from tranship.envelope import Priority, TaskState
from tranship.errors import BrokerRefused, InvalidOptionError
from tranship.ports import Backend, Consumer, Settled, Settlement, StoredResult, Verdict
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.harness import Harness
from tranship.testing.services import Service
from tranship_redis._element import read

CONFIRMED, LOST = Settled.CONFIRMED, Settled.LOST


@pytest.fixture
def keyspace(context: CaseContext, raw: Raw) -> KeySpace:
    return KeySpace(context, raw)


async def opened(context: CaseContext, **options: object) -> tuple[Backend, Consumer]:
    backend = await context.open(**{"lease": 60, **options})
    return backend, backend.consumer(["q"])


# --- results --------------------------------------------------------------------------------------


async def test_a_result_is_stored_and_told(context: CaseContext, keyspace: KeySpace) -> None:
    """As Celery stores it: a key with a time to live, and the same bytes on the channel of that name."""
    backend, consumer = await opened(context)
    heard: list[StoredResult] = []
    backend.results().attach(heard.extend)
    backend.results().expect(["a", "b"])
    await context.submit(backend, *messages(context, "a", "b"))
    a, b = await take(consumer, 2)
    results = [context.result("a", 1, ttl=0.0001), context.result("b", "x" * 1000, ttl=500)]
    answers = await consumer.settle(
        [Settlement(a, Verdict.ACK, result=results[0]), Settlement(b, Verdict.ACK, result=results[1])]
    )
    assert list(answers) == [CONFIRMED] * 2
    await context.eventually(lambda: asyncio.sleep(0, len(heard) >= 2), "both results are pushed")
    assert {one.id: one.document for one in heard} == {"a": results[0].document, "b": results[1].document}
    assert keyspace.result("b") == results[1].document
    assert 490 < keyspace.raw("TTL", keyspace.key("celery-task-meta-b")) <= 500
    keyspace.nothing_held()


@pytest.mark.parametrize(
    ("there", "stays"),
    [
        (b'{"status": "SUCCESS", "result": 1, "task_id": "a"}', True),
        (b'{"status":"FAILURE","task_id":"a"}', True),
        (b'{"task_id": "a", "result": {"status": "STARTED"}, "status": "REVOKED"}', True),
        (msgpack.packb({"status": "SUCCESS", "task_id": "a"}), True),
        (b'{"status": "STARTED", "result": {"status": "SUCCESS"}}', False),
        (b'{"status": "RETRY", "task_id": "a"}', False),
        (b'{"status": "PROGRESS"}', False),
        (msgpack.packb({"status": "STARTED"}), False),
        (b"", False),
        (b"rubbish", False),
        (b"[1]", False),
    ],
)
async def test_the_first_terminal_result_stays(
    context: CaseContext, keyspace: KeySpace, there: bytes, stays: bool
) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, context.message(id="a"))
    keyspace.raw("SET", keyspace.key("celery-task-meta-a"), there)
    result = context.result("a", 2)
    assert await settle(consumer, Verdict.ACK, *await take(consumer, 1), result=result) == [CONFIRMED]
    assert keyspace.result("a") == (there if stays else result.document)
    keyspace.nothing_held()


async def test_a_task_without_a_usable_id_ends_all_the_same(context: CaseContext, keyspace: KeySpace) -> None:
    """Half a character in the id, which JSON can carry: nobody can ask for its result."""
    _, consumer = await opened(context)
    odd = keyspace.kombu("a")
    odd["headers"]["id"] = "half \ud800"
    keyspace.push(odd, keyspace.kombu("b"))
    held = await take(consumer, 2)
    results = [context.result("b", 1), context.result("b", 1)]
    results[0] = dataclasses.replace(results[0], id="half \ud800")
    pairs = zip(sorted(held, key=lambda one: one.token.letter, reverse=True), results, strict=True)
    answers = await consumer.settle([Settlement(one, Verdict.ACK, result=result) for one, result in pairs])
    assert list(answers) == [CONFIRMED] * 2
    assert keyspace.result("b") is not None
    keyspace.nothing_held()


# --- the fence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("who", ["sweep", "celery"])
async def test_nothing_is_done_for_what_was_taken_away(
    context: CaseContext, keyspace: KeySpace, verdict: Verdict, who: str
) -> None:
    """By a sweep of ours, or by Celery, whose workers know nothing of our leases."""
    backend, consumer = await opened(context)
    await context.submit(backend, *messages(context, "a", "b"))
    mine, other = await take(consumer, 2)
    if who == "sweep":
        keyspace.raw("ZREM", keyspace.key("tranship:leases"), mine.token.token)
    keyspace.raw("HDEL", keyspace.key("unacked"), mine.token.tag)
    keyspace.raw("ZREM", keyspace.key("unacked_index"), mine.token.tag)
    more = {"replacement": context.message(id="a", attempt=1)} if verdict is Verdict.REPLACE else {}
    late = Settlement(mine, verdict, result=context.result("a", 1), **more)
    answers = await consumer.settle([late, Settlement(other, Verdict.ACK, result=context.result("b", 1))])
    assert list(answers) == [LOST, CONFIRMED]
    assert keyspace.result("a") is None
    assert keyspace.result("b") is not None
    assert (keyspace.elements(), keyspace.letters()) == ([], [])
    keyspace.nothing_held()


async def test_a_renewal_of_what_celery_took_away_says_so(context: CaseContext, keyspace: KeySpace) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, *messages(context, "a", "b"))
    held = await take(consumer, 2)
    keyspace.raw("HDEL", keyspace.key("unacked"), held[0].token.tag)
    keyspace.raw("ZREM", keyspace.key("unacked_index"), held[0].token.tag)
    assert list(await consumer.extend(held)) == [False, True]
    assert len(keyspace.tokens()) == 1


async def test_renewing_keeps_celery_away_as_well(context: CaseContext, keyspace: KeySpace) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, *context.messages(3))
    held = await take(consumer, 3)
    order = keyspace.tokens()
    for tag in keyspace.index():
        keyspace.raw("ZADD", keyspace.key("unacked_index"), "1", tag)
    for token in order:
        keyspace.raw("ZADD", keyspace.key("tranship:leases"), "1", token)
    assert list(await consumer.extend(held)) == [True] * 3
    for key, names, ahead in (("unacked_index", keyspace.index(), 0), ("tranship:leases", order, 60)):
        for name in names:
            assert abs(float(keyspace.raw("ZSCORE", keyspace.key(key), name)) - time.time() - ahead) < 5
    assert keyspace.tokens() == order


async def test_the_same_delivery_twice_in_one_batch(context: CaseContext, keyspace: KeySpace) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, context.message(id="a"))
    (held,) = await take(consumer, 1)
    assert await settle(consumer, Verdict.NACK, held, held) == [CONFIRMED, LOST]
    assert len(keyspace.elements()) == 1


# --- verdicts -------------------------------------------------------------------------------------


async def test_nacked_ones_go_to_the_front_in_their_order(context: CaseContext, keyspace: KeySpace) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, *messages(context, "a", "b", "c", "d"))
    held = await take(consumer, 3)
    assert await settle(consumer, Verdict.NACK, *held) == [CONFIRMED] * 3
    assert list(counts(await take(consumer, 4)).items()) == [("a", 2), ("b", 2), ("c", 2), ("d", 1)]


async def test_counts_are_forgotten_with_the_message(context: CaseContext, keyspace: KeySpace) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, *messages(context, "ack", "reject", "replace"))
    await settle(consumer, Verdict.NACK, *await take(consumer, 3))
    assert len(keyspace.raw.hash(keyspace.key("tranship:deliveries").decode())) == 3
    ack, reject, replace = await take(consumer, 3)
    replacement = context.message(id="replace", attempt=1)
    await consumer.settle(
        [
            Settlement(ack, Verdict.ACK),
            Settlement(reject, Verdict.REJECT, reason="kit", detail="kit"),
            Settlement(replace, Verdict.REPLACE, replacement=replacement),
        ]
    )
    assert counts(await take(consumer, 1)) == {"replace": 1}
    assert keyspace.raw.hash(keyspace.key("tranship:deliveries").decode()) == {}


async def test_a_dead_letter_has_everything(context: CaseContext, keyspace: KeySpace) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, context.message(id="a", priority=Priority.LOW))
    (element,) = keyspace.elements(priority=Priority.LOW)
    await settle(consumer, Verdict.NACK, *await take(consumer, 1))
    (held,) = await take(consumer, 1)
    result = context.result("a", None, state=TaskState.DEAD_LETTERED)
    await settle(consumer, Verdict.REJECT, held, reason="half \ud800", detail="é", result=result)
    (letter,) = keyspace.letters()
    assert (letter.reason, letter.detail, letter.deliveries) == ("half \ud800", "é", 2)
    assert (letter.facts.id, letter.facts.queue, letter.facts.level) == ("a", "q", Priority.LOW)
    came = read(element)
    assert (letter.message.headers, letter.message.body) == (came.headers, came.body)
    assert letter.message.properties == came.properties
    assert keyspace.result("a") == result.document
    keyspace.nothing_held()


async def test_a_replacement_waits_for_its_time_on_the_server(context: CaseContext, keyspace: KeySpace) -> None:
    """Also where Celery workers serve the queue: they are told RETRY, and see the message when it is due."""
    keyspace.peers()
    backend, consumer = await opened(context)
    await context.submit(backend, context.message(id="a", priority=Priority.HIGH))
    (held,) = await take(consumer, 1)
    due = time.time() + 0.6
    replacement = context.message(id="a", attempt=1, not_before=due, priority=Priority.HIGH)
    assert await settle(consumer, Verdict.REPLACE, held, replacement=replacement) == [CONFIRMED]
    assert json.loads(keyspace.result("a") or b"")["status"] == "RETRY"
    assert keyspace.raw("HGET", keyspace.key("tranship:delayed-queues"), "a") == b"q"
    assert not await at_once(consumer)
    (again,) = await take(consumer, 1)
    assert abs(time.time() - due) < 0.5
    assert (again.priority, again.message.body) == (Priority.HIGH, replacement.body)
    assert json.loads(keyspace.result("a") or b"")["status"] == "STARTED"
    await settle(consumer, Verdict.ACK, again, result=context.result("a", 1))
    assert json.loads(keyspace.result("a") or b"")["status"] == "SUCCESS"
    keyspace.nothing_held()


async def at_once(consumer: Consumer) -> list[str]:
    return ids_of((await consumer.receive(5, 0.0)).deliveries)


@pytest.mark.parametrize(
    "options", [{"result_serializer": "json"}, {"result_serializer": "msgpack"}, {"celery": "off"}]
)
async def test_retry_is_said_in_the_format_of_results(
    context: CaseContext, keyspace: KeySpace, options: dict[str, str]
) -> None:
    backend, consumer = await opened(context, **{"celery": "on", **options})
    await context.submit(backend, *messages(context, "a", "silent"))
    a, silent = await take(consumer, 2)
    await settle(consumer, Verdict.REPLACE, a, replacement=context.message(id="a", attempt=1))
    before = keyspace.result("silent")
    await settle(
        consumer, Verdict.REPLACE, silent, replacement=context.message(id="silent", attempt=1, store_result=False)
    )
    assert keyspace.result("silent") == before
    document = keyspace.result("a")
    if "celery" in options:
        assert document is None
    else:
        read = (
            json.loads(document or b"") if options["result_serializer"] == "json" else msgpack.unpackb(document or b"")
        )
        assert (read["status"], read["task_id"]) == ("RETRY", "a")


async def test_a_replacement_goes_where_it_says(context: CaseContext, keyspace: KeySpace) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, *messages(context, "a", "b"))
    a, b = await take(consumer, 2)
    await settle(
        consumer, Verdict.REPLACE, a, replacement=context.message(id="a", priority=Priority.VERY_LOW, queue="other")
    )
    await settle(consumer, Verdict.REPLACE, b, replacement=context.message(id="b", not_before=time.time() - 5))
    assert len(keyspace.elements("other", Priority.VERY_LOW)) == 1
    assert await at_once(consumer) == ["b"]


@pytest.mark.parametrize("verdict", [Verdict.ACK, Verdict.REPLACE])
async def test_verdict_and_replacement_belong_together(
    context: CaseContext, keyspace: KeySpace, verdict: Verdict
) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, context.message())
    (held,) = await take(consumer, 1)
    replacement = context.message() if verdict is Verdict.ACK else None
    (answer,) = await consumer.settle([Settlement(held, verdict, replacement=replacement)])
    assert isinstance(answer, InvalidOptionError)
    assert "together" in str(answer)
    assert await settle(consumer, Verdict.ACK, held) == [CONFIRMED]


# --- those kept apart -----------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_a_quarantined_message_is_settled_like_any_other(
    context: CaseContext, keyspace: KeySpace, verdict: Verdict
) -> None:
    """It is among the dead letters from the start; settled it stays, goes, or is replaced."""
    _, consumer = await opened(context)
    keyspace.push(keyspace.kombu("a", tag="same"), keyspace.kombu("b", tag="same"))
    first, twin = await take(consumer, 2)
    await settle(consumer, Verdict.ACK, first)
    more = {"replacement": context.message(id="b", attempt=1)} if verdict is Verdict.REPLACE else {}
    result = context.result("b", 1) if verdict is not Verdict.NACK else None
    said = {"reason": "kit", "detail": "kit"}
    assert await settle(consumer, verdict, twin, result=result, **said, **more) == [CONFIRMED]
    letters = [(one.reason, *one.facts[:3]) for one in keyspace.letters()]
    reason = {Verdict.NACK: "duplicate-tag", Verdict.REJECT: "kit"}.get(verdict)
    assert letters == ([] if reason is None else [(reason, "b", "q", Priority.NORMAL)])
    assert len(keyspace.elements()) == (verdict is Verdict.REPLACE)
    assert (keyspace.result("b") is not None) is (result is not None)
    if verdict is not Verdict.NACK:
        assert await settle(consumer, verdict, twin, result=result, **more) == [LOST]
    keyspace.nothing_held()


async def test_a_quarantined_message_that_was_purged_is_not_ours(context: CaseContext, keyspace: KeySpace) -> None:
    backend, consumer = await opened(context)
    keyspace.push("rubbish")
    (held,) = await take(consumer, 1)
    await backend.inspector().dead_purge()
    assert await settle(consumer, Verdict.REJECT, held, reason="kit", detail="kit") == [LOST]
    await consumer.release([held])
    assert (keyspace.letters(), keyspace.elements()) == ([], [])


# --- what the server refuses ----------------------------------------------------------------------


async def test_one_that_is_refused_does_not_take_its_neighbours_along(context: CaseContext, keyspace: KeySpace) -> None:
    """Its result key is somebody else's: it is refused, naming the key, and the others are done."""
    backend, consumer = await opened(context)
    await context.submit(backend, *messages(context, "a", "bad", "c"))
    held = await take(consumer, 3)
    keyspace.raw("LPUSH", keyspace.key("celery-task-meta-bad"), "x")
    ids = ["a", "bad", "c"]
    settlements = [
        Settlement(one, Verdict.ACK, result=context.result(task, 1)) for one, task in zip(held, ids, strict=True)
    ]
    first, refused, last = await consumer.settle(settlements)
    assert (first, last) == (CONFIRMED, CONFIRMED)
    assert isinstance(refused, BrokerRefused)
    assert "celery-task-meta-bad" in str(refused)
    assert len(keyspace.unacked()) == len(keyspace.tokens()) == 1
    keyspace.all_true()
    keyspace.raw("DEL", keyspace.key("celery-task-meta-bad"))
    assert list(await consumer.settle(settlements)) == [LOST, CONFIRMED, LOST]
    assert list(await consumer.settle(settlements)) == [LOST] * 3
    keyspace.nothing_held()


async def test_a_task_whose_result_has_no_place_can_die(context: CaseContext, keyspace: KeySpace) -> None:
    """Its result key is somebody else's: it would come back for ever, because its death has a result, too."""
    backend, consumer = await opened(context)
    await context.submit(backend, *messages(context, "bad"))
    held = await take(consumer, 1)
    keyspace.raw("LPUSH", keyspace.key("celery-task-meta-bad"), "x")
    result = context.result("bad", 1)
    assert await settle(consumer, Verdict.REJECT, *held, result=result, reason="delivery-limit") == [CONFIRMED]
    (letter,) = keyspace.letters()
    assert (letter.facts.id, letter.reason) == ("bad", "delivery-limit")
    assert keyspace.raw("TYPE", keyspace.key("celery-task-meta-bad")) == b"list"
    keyspace.nothing_held()


@pytest.mark.parametrize(
    ("verdict", "key"),
    [
        (Verdict.NACK, "q\x06\x163"),
        (Verdict.REJECT, "tranship:rows:d"),
        (Verdict.REPLACE, "q\x06\x163"),
    ],
)
async def test_a_refused_verdict_leaves_the_delivery_ours(
    context: CaseContext, keyspace: KeySpace, verdict: Verdict, key: str
) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, context.message(id="a"))
    held = await take(consumer, 1)
    keyspace.raw("SET", keyspace.key(key), "somebody else's")
    more = {"replacement": context.message(id="a", attempt=1)} if verdict is Verdict.REPLACE else {}
    (answer,) = await settle(consumer, verdict, *held, reason="kit", detail="kit", **more)
    assert isinstance(answer, BrokerRefused)
    assert key.partition("\x06")[0] in str(answer)
    assert list(await consumer.extend(held)) == [True]
    keyspace.all_true()
    keyspace.raw("DEL", keyspace.key(key))
    assert await settle(consumer, verdict, *held, reason="kit", detail="kit", **more) == [CONFIRMED]
    assert len(keyspace.letters()) == (verdict is Verdict.REJECT)
    assert len(keyspace.elements()) == (verdict is not Verdict.REJECT)


async def test_who_may_not_publish_is_told(redis_variant: Callable[..., Service]) -> None:
    """The result could not be pushed, so nothing is done: the next attempt, with the right, does all of it."""
    service = redis_variant()
    raw, address = Raw(service), service.url.partition("://")[2].partition("/")[0]
    raw("ACL", "SETUSER", "mute", "on", ">pw", "~*", "resetchannels", "+@all")
    async with CaseContext(Harness(f"redis://mute:pw@{address}/0"), "mute") as context:
        keyspace = KeySpace(context, raw)
        backend, consumer = await opened(context)
        await context.submit(backend, context.message(id="a"))
        held = await take(consumer, 1)
        (answer,) = await settle(consumer, Verdict.ACK, *held, result=context.result("a", 1))
        assert isinstance(answer, BrokerRefused)
        assert "PUBLISH" in str(answer)
        assert keyspace.result("a") is None
        keyspace.all_true()
        raw("ACL", "SETUSER", "mute", "allchannels")
        assert await settle(consumer, Verdict.ACK, *held, result=context.result("a", 1)) == [CONFIRMED]


# --- amounts --------------------------------------------------------------------------------------


async def test_batches_of_any_size(context: CaseContext, keyspace: KeySpace) -> None:
    """More than one script call's worth, by number and by bytes."""
    backend, consumer = await opened(context)
    ids = await context.submit(backend, *context.messages(1203))
    held = await take(consumer, 1203)
    assert list(await consumer.extend(held)) == [True] * 1203
    await consumer.release(held)
    held = await take(consumer, 1203)
    assert ids_of(held) == ids
    large = "x" * 300_000
    results = [context.result(task, large if number % 100 == 0 else number) for number, task in enumerate(ids)]
    pairs = zip(held, results, strict=True)
    answers = await consumer.settle([Settlement(one, Verdict.ACK, result=result) for one, result in pairs])
    assert list(answers) == [CONFIRMED] * 1203
    stored = await backend.results().get_many(ids)
    assert [one.document for one in stored] == [one.document for one in results]
    keyspace.nothing_held()


async def test_settling_side_by_side(context: CaseContext, keyspace: KeySpace) -> None:
    backend, consumer = await opened(context)
    await context.submit(backend, *context.messages(60))
    held = await take(consumer, 60)
    answers = await asyncio.gather(*(settle(consumer, Verdict.ACK, one) for one in held))
    assert answers == [[CONFIRMED]] * 60
    keyspace.nothing_held()
