"""What somebody else puts on our lists: bad elements end as dead letters, and never where Celery would find them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from redis_elements import INCOMPLETE, INFO, READABLE, UNREADABLE, Bad, Change, set_in, without
from redis_kit import Raw, element, list_of, ours

from tranship import AsyncClient, Worker, task
from tranship.envelope import DeadLetter
from tranship.errors import MalformedMessage, TaskDeadLettered
from tranship.ports import Settled, Settlement, Verdict
from tranship.protocol import decode
from tranship.testing.context import CaseContext, ids_of
from tranship_redis._element import read

pytestmark = pytest.mark.timeout(120)


@task(name="conformance.echo", queue="q")
def echo(value: object = None) -> object:
    return value


@pytest.mark.parametrize("bad", [*INCOMPLETE, *UNREADABLE], ids=lambda bad: bad.name)
async def test_a_bad_element_becomes_a_dead_letter_and_the_next_one_runs(
    context: CaseContext, raw: Raw, bad: Bad
) -> None:
    """With a worker at work: kept with reason, detail and its bytes; the good task behind it is answered."""
    url, pushed = context.url(lease=5), bad.of(context)
    raw("LPUSH", list_of(context), pushed)
    async with AsyncClient(url, result_url=url) as client:
        handle = await client.submit(echo, "good")
        worker = Worker(url, tasks=[echo], result_url=url)
        serving = context.start(worker.serve())
        assert await handle.result(15) == "good"
        inspector = (await context.open()).inspector()

        async def buried() -> bool:
            return [letter for letter in await inspector.dead() if letter.reason == "malformed"] != []

        await context.eventually(buried, "it is among the dead letters")
        assert worker.status().ready
        worker.stop()
        await serving
    (letter,) = await inspector.dead()
    assert letter.reason == "malformed"
    assert letter.detail
    assert READABLE.get(bad.name, "") in letter.detail
    assert letter.queue == "q"
    assert_kept(letter, pushed)
    assert raw("LLEN", list_of(context)) == 0
    assert_nothing_held(context, raw)


@pytest.mark.parametrize("bad", INCOMPLETE, ids=lambda bad: bad.name)
async def test_an_incomplete_element_never_gets_to_where_celery_restores_from(
    context: CaseContext, raw: Raw, bad: Bad
) -> None:
    """While it is held, after it was given back and after its owner died: everything in ``unacked`` is complete."""
    backend = await context.open(lease=1.0)
    raw("LPUSH", list_of(context), bad.of(context))
    (good,) = await context.submit(backend, context.message())
    consumer = backend.consumer(["q"])
    held = await context.receive(consumer, 2)
    assert_complete(context, raw)
    odd = [one for one in held if not _has_id(one, good)]
    assert [_is_readable(one) for one in odd] == [False]
    assert list(await consumer.extend(held)) == [True, True]
    await consumer.release(odd)
    held = [one for one in held if one is not odd[0]]
    assert_complete(context, raw)
    (again,) = await context.receive(consumer)
    assert_complete(context, raw)
    assert again.message.headers == odd[0].message.headers
    rejection = Settlement(again, Verdict.REJECT, reason="malformed", detail="as the core says")
    assert list(await consumer.settle([rejection, Settlement(held[0], Verdict.ACK)])) == [Settled.CONFIRMED] * 2
    (letter,) = await backend.inspector().dead()
    assert (letter.reason, letter.detail) == ("malformed", "as the core says")
    await context.quiet(consumer, 0.1)
    assert_nothing_held(context, raw)


@pytest.mark.parametrize("bad", [INCOMPLETE[0], INCOMPLETE[14]], ids=lambda bad: bad.name)
async def test_an_incomplete_element_outlives_the_worker_that_met_it(context: CaseContext, raw: Raw, bad: Bad) -> None:
    """Never settled: it is a dead letter all the same, and does not come again and again."""
    backend, other = await context.open(lease=0.6), await context.open(lease=0.6)
    raw("LPUSH", list_of(context), bad.of(context))
    await context.receive(backend.consumer(["q"]))
    await context.quiet(other.consumer(["q"]), 1.5)
    (letter,) = await other.inspector().dead()
    assert letter.reason == "malformed"
    assert letter.body == bad.of(context)


@pytest.mark.parametrize("bad", [bad for bad in INCOMPLETE if bad.name in READABLE], ids=lambda bad: bad.name)
async def test_what_lacks_something_only_celery_needs_is_completed_when_it_is_replayed(
    context: CaseContext, raw: Raw, bad: Bad
) -> None:
    backend = await context.open()
    letter = await buried(context, raw, bad)
    assert list(await backend.inspector().dead_replay([letter])) == [letter]
    consumer = backend.consumer(["q"])
    held = await context.receive(consumer)
    assert ids_of(held) == [f"bad-{bad.name}"]
    assert raw("HLEN", ours(context, "unacked")) == 1
    assert_complete(context, raw)
    await context.settle(consumer, Verdict.ACK, *held)
    assert_nothing_held(context, raw)


@pytest.mark.parametrize("name", ["no-json", "empty", "a-list", "broken-inside", "body-four-elements", "no-task"])
async def test_what_would_kill_a_celery_worker_is_not_queued_again(context: CaseContext, raw: Raw, name: str) -> None:
    backend = await context.open()
    letter = await buried(context, raw, next(bad for bad in (*INCOMPLETE, *UNREADABLE) if bad.name == name))
    with pytest.raises(MalformedMessage):
        await backend.inspector().dead_replay([letter])
    assert raw("LLEN", list_of(context)) == 0
    assert len(await backend.inspector().dead()) == 1
    assert await backend.inspector().dead_purge([letter]) == 1


async def buried(context: CaseContext, raw: Raw, bad: Bad) -> str:
    """Let a worker meet the element and reject it; return the dead letter's id."""
    backend = await context.open()
    raw("LPUSH", list_of(context), bad.of(context))
    consumer = backend.consumer(["q"])
    await context.settle(
        consumer, Verdict.REJECT, *await context.receive(consumer), reason="malformed", detail="on purpose"
    )
    (letter,) = await backend.inspector().dead()
    return letter.id


@pytest.mark.parametrize(
    "change",
    [
        set_in("properties", "delivery_tag", 17),
        set_in("properties", "delivery_tag", 2**60 + 1),
        set_in("properties", "delivery_tag", "with \x00 zero"),
        set_in("properties", "delivery_tag", 'with "quotes" \\ and \u6f22'),
        set_in("properties", "delivery_tag", ""),
        set_in(*INFO, "exchange", "named"),
        without("properties", "priority"),
        without("properties", "reply_to"),
        set_in("headers", "retries", None),
        set_in("headers", "timelimit", []),
    ],
    ids=["int", "big-int", "zero", "odd", "empty", "exchange", "no-priority", "no-reply", "retries", "timelimit"],
)
async def test_what_celery_takes_we_take(context: CaseContext, raw: Raw, change: Change) -> None:
    """Unusual and right: run, settled, and nothing of it is left behind; also given back and taken again."""
    whole = element(context, id="odd-1", args=("value",))
    change(whole)
    raw("LPUSH", list_of(context), json.dumps(whole))
    backend, other = await context.open(lease=60), await context.open(lease=60)
    consumer = backend.consumer(["q"])
    held = await context.receive(consumer)
    assert_complete(context, raw)
    assert ids_of(held) == ["odd-1"]
    envelope = decode(held[0].message, queue="q", priority=held[0].priority)
    assert list(envelope.args) == ["value"]
    assert list(await consumer.extend(held)) == [True]
    await context.settle(consumer, Verdict.NACK, *held)
    held = await context.receive(consumer)
    assert held[0].delivery_count == 2
    await consumer.release(held)
    rival = other.consumer(["q"])
    assert await context.drain(rival, 1) == ["odd-1"]
    await context.quiet(rival, 0.2)
    assert_nothing_held(context, raw)


async def test_odd_elements_are_swept_like_others(context: CaseContext, raw: Raw) -> None:
    """Held by a worker that died: each comes back to its list and is delivered again."""
    changes = [
        set_in("properties", "delivery_tag", 17),
        set_in("properties", "delivery_tag", "with \x00 zero"),
        set_in("properties", "delivery_tag", ""),
        set_in(*INFO, "exchange", "named"),
    ]
    for number, change in enumerate(changes):
        whole = element(context, id=f"odd-{number}")
        change(whole)
        raw("LPUSH", list_of(context), json.dumps(whole))
    backend, other = await context.open(lease=0.6), await context.open(lease=60)
    held = await context.receive(backend.consumer(["q"]), len(changes))
    rival = other.consumer(["q"])
    again = await context.receive(rival, len(changes))
    assert sorted(ids_of(again)) == sorted(ids_of(held))
    await context.settle(rival, Verdict.ACK, *again)
    assert_nothing_held(context, raw)


async def test_two_messages_with_one_tag_are_both_kept(context: CaseContext, raw: Raw) -> None:
    """Celery would lose one: here both can be found, run or dead, and settling one does not remove the other."""
    twins = [element(context, id=f"twin-{number}") for number in range(2)]
    for twin in twins:
        twin["properties"]["delivery_tag"] = "the-same"
        raw("LPUSH", list_of(context), json.dumps(twin))
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    held = [one for _ in range(2) for one in (await consumer.receive(1, 0.3)).deliveries]
    assert_complete(context, raw)
    letters = [letter.task_id for letter in await backend.inspector().dead()]
    for one in held:
        await consumer.settle([Settlement(one, Verdict.ACK)])
    assert {*ids_of(held), *letters} == {"twin-0", "twin-1"}


async def test_a_waiter_hears_of_an_unreadable_task(context: CaseContext, raw: Raw) -> None:
    bad = next(bad for bad in UNREADABLE if bad.name == "body-four-elements")
    url = context.url()
    async with AsyncClient(url, result_url=url) as client:
        waiting = context.start(client.handle("bad-body-four-elements").result(15))
        raw("LPUSH", list_of(context), bad.of(context))
        worker = Worker(url, tasks=[echo], result_url=url)
        serving = context.start(worker.serve())
        with pytest.raises(TaskDeadLettered) as caught:
            await waiting
        worker.stop()
        await serving
    assert caught.value.code == "MALFORMED_MESSAGE"


async def test_thousands_of_bad_elements_do_not_stop_the_good_ones(context: CaseContext, raw: Raw) -> None:
    """A list full of rubbish, with tasks in between: all tasks run, the rubbish is kept, memory of it is bounded."""
    backend = await context.open()
    for _ in range(4):
        raw("LPUSH", list_of(context), *[b"rubbish %d" % number for number in range(500)])
        await context.submit(backend, context.message())
    consumer = backend.consumer(["q"])
    good, bad, end = [], 0, time.monotonic() + 30
    while (len(good) < 4 or bad < 2000) and time.monotonic() < end:
        deliveries = list((await consumer.receive(100, 0.5)).deliveries)
        fine = [one for one in deliveries if _is_readable(one)]
        rubbish = [one for one in deliveries if one not in fine]
        await context.settle(consumer, Verdict.ACK, *fine)
        await context.settle(consumer, Verdict.REJECT, *rubbish, reason="malformed", detail="rubbish")
        good += fine
        bad += len(rubbish)
    assert (len(good), bad) == (4, 2000)
    assert_nothing_held(context, raw)


# --- looking past the backend ---------------------------------------------------------------------


def assert_complete(context: CaseContext, raw: Raw) -> None:
    """Insist that Celery could restore everything that is held."""
    held = raw.hash(ours(context, "unacked"))
    for tag, value in held.items():
        message, exchange, routing_key = json.loads(value)
        assert isinstance(exchange, str)
        assert isinstance(routing_key, str)
        properties = message["properties"]
        assert str(properties["delivery_tag"]).encode() == tag
        assert isinstance(properties["delivery_info"]["routing_key"], str)
        assert isinstance(properties["delivery_info"]["exchange"], str)
    index = raw("ZRANGE", ours(context, "unacked_index"), "0", "-1")
    assert sorted(index) == sorted(held), "what is held and what is known of it differ"


def assert_nothing_held(context: CaseContext, raw: Raw) -> None:
    """Insist that nothing is left of deliveries that have ended."""
    left = {
        name: raw(*command, ours(context, name))
        for command, name in (
            (["HLEN"], "unacked"),
            (["ZCARD"], "unacked_index"),
            (["ZCARD"], "tranship:leases"),
            (["HLEN"], "tranship:deliveries"),
        )
    }
    assert not any(left.values()), left


def assert_kept(letter: DeadLetter, element: bytes) -> None:
    """Insist that everything is shown that can be read of an element."""
    message = read(element)
    shown = message.headers if isinstance(message.headers, Mapping) else {}
    assert (dict(letter.headers), letter.body) == (dict(shown), message.body)


def _is_readable(delivery: Any) -> bool:
    try:
        decode(delivery.message, queue="q", priority=delivery.priority)
    except MalformedMessage:
        return False
    return True


def _has_id(delivery: Any, task_id: str) -> bool:
    return _is_readable(delivery) and ids_of([delivery]) == [task_id]
