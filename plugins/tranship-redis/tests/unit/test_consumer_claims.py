"""Claims: what is recorded of them, what is left alone, and what becomes of everything that is unusual."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from consumer_kit import KeySpace, counts, messages, settle, take
from redis_context import opened
from redis_kit import Raw
from redis_kit import opened as open_backend

from tranship.envelope import Priority
from tranship.errors import BrokerRefused, InvalidOptionError
from tranship.ports import Settled, Verdict
from tranship.protocol import decode
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.services import Service
from tranship_redis._claims import Claims
from tranship_redis._element import read

GOLDEN = Path(__file__).resolve().parents[4] / "tests" / "golden" / "vectors"


@pytest.fixture
def keyspace(context: CaseContext, raw: Raw) -> KeySpace:
    return KeySpace(context, raw)


# --- what is recorded -----------------------------------------------------------------------------


async def test_what_is_held_is_recorded_for_celery_and_for_us(context: CaseContext, keyspace: KeySpace) -> None:
    """``unacked`` holds the element's very bytes; the lease's token names list, tag and claim."""
    backend = await context.open(lease=60)
    await context.submit(backend, *messages(context, "a", "b"))
    elements = keyspace.elements()
    before = time.time()
    held = await take(backend.consumer(["q"]), 2)
    assert ids_of(held) == ["a", "b"]
    assert keyspace.elements() == []
    assert sorted(keyspace.unacked().values()) == sorted(b"[" + one + b', "", "q"]' for one in elements)
    keyspace.all_true()
    lists, tags, claims = zip(*(token.split(b"\0") for token in keyspace.tokens()), strict=True)
    assert set(lists) == {keyspace.list()}
    assert list(tags) == [json.loads(one)["properties"]["delivery_tag"].encode() for one in elements]
    assert len(set(claims)) == 1
    ends = [float(keyspace.raw("ZSCORE", keyspace.key("tranship:leases"), token)) for token in keyspace.tokens()]
    assert before + 59 < ends[0] < ends[1] < time.time() + 61
    seen = float(keyspace.raw("ZSCORE", keyspace.key("unacked_index"), tags[0]))
    assert abs(seen - time.time()) < 5


async def test_elements_pass_through_unchanged(context: CaseContext, keyspace: KeySpace) -> None:
    """Big integers, empty lists, odd spacing and escapes: given back, the bytes are what they were."""
    whole = keyspace.kombu("a")
    whole["headers"]["big"] = 2**70
    whole["headers"]["odd"] = ["é", "/", '"', "\u2028", [], {}, 1e300]
    odd = [
        json.dumps(whole),
        json.dumps({**whole, "properties": {**whole["properties"], "delivery_tag": "t2"}}, indent=1),
    ]
    keyspace.push(*odd)
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    held = await take(consumer, 2)
    keyspace.all_true()
    await consumer.release(held)
    assert keyspace.elements() == [one.encode() for one in odd]
    held = await take(consumer, 2)
    assert await settle(consumer, Verdict.NACK, *held) == [Settled.CONFIRMED] * 2
    assert keyspace.elements() == [one.encode() for one in odd]


async def test_queues_of_any_name(context: CaseContext, keyspace: KeySpace) -> None:
    names = ["q\x06\x163", "a b", 'quo"te', "back\\slash", "漢字", "{hash}", "%b%s", "x" * 500]
    backend = await context.open(lease=60)
    for name in names:
        await context.submit(backend, context.message(id=name, queue=name))
    consumer = backend.consumer(names)
    held = await take(consumer, len(names))
    assert {one.queue: task for one, task in zip(held, ids_of(held), strict=True)} == dict(
        zip(names, names, strict=True)
    )
    keyspace.all_true()
    assert list(await consumer.extend(held)) == [True] * len(names)
    await consumer.release(held[:4])
    await settle(consumer, Verdict.NACK, *held[4:])
    held = await take(consumer, len(names))
    assert sorted(one.queue for one in held) == sorted(names)
    await settle(consumer, Verdict.ACK, *held)
    keyspace.nothing_held()


@pytest.mark.parametrize("name", ["a\0b", "half \ud800"])
async def test_a_name_that_cannot_be_used_is_refused(context: CaseContext, name: str) -> None:
    backend = await context.open()
    with pytest.raises(InvalidOptionError, match="queue"):
        backend.consumer(["fine", name])


# --- order and amounts ----------------------------------------------------------------------------


async def test_levels_come_in_order_and_keep_their_own(context: CaseContext, keyspace: KeySpace) -> None:
    for level in reversed(Priority):
        keyspace.push(keyspace.kombu(level.label), priority=level)
    backend = await context.open()
    held = await take(backend.consumer(["q"]), 4)
    assert ids_of(held) == [level.label for level in Priority]
    assert [one.priority for one in held] == list(Priority)


async def test_celerys_default_can_be_normal(context: CaseContext, keyspace: KeySpace) -> None:
    """With ``normal_step=0`` the first list is NORMAL; what is left in the list of step 3 is served as well."""
    backend = await context.open(normal_step=0)
    keyspace.push(keyspace.kombu("celery"), priority=Priority.HIGH)
    keyspace.push(keyspace.kombu("left"), priority=Priority.NORMAL)
    held = await take(backend.consumer(["q"]), 2)
    assert [(task, one.priority) for task, one in zip(ids_of(held), held, strict=True)] == [
        ("celery", Priority.NORMAL),
        ("left", Priority.NORMAL),
    ]


async def test_one_claim_takes_no_more_than_the_server_can_bear(context: CaseContext, keyspace: KeySpace) -> None:
    """However many are wanted: 500 messages, or about four megabytes."""
    backend = await context.open()
    await context.submit(backend, *context.messages(600))
    consumer = backend.consumer(["q"])
    first = await consumer.receive(10_000, 5)
    assert len(first.deliveries) == 500
    assert len((await consumer.receive(10_000, 5)).deliveries) == 100
    keyspace.all_true()
    await settle(consumer, Verdict.ACK, *first.deliveries)
    large = [context.message(args=("x" * 1_000_000,)) for _ in range(8)]
    await context.submit(backend, *large)
    amounts = [len((await consumer.receive(100, 5)).deliveries) for _ in range(2)]
    assert amounts == [4, 4]


# --- what was delivered before --------------------------------------------------------------------


async def test_poison_travels_alone_wherever_it_stands(context: CaseContext, keyspace: KeySpace) -> None:
    backend = await context.open(lease=60)
    await context.submit(backend, *messages(context, "poison", "b", "c"))
    consumer = backend.consumer(["q"])
    for _ in range(2):
        await settle(consumer, Verdict.NACK, *await take(consumer, 1))
    keyspace.raw("RPUSH", keyspace.list(), json.dumps(keyspace.kombu("a")))
    batches = [(await consumer.receive(10, 5)).deliveries for _ in range(3)]
    assert [counts(batch) for batch in batches] == [{"a": 1}, {"poison": 3}, {"b": 1, "c": 1}]


async def test_what_celery_restored_counts_as_delivered(context: CaseContext, keyspace: KeySpace) -> None:
    whole = keyspace.kombu("a")
    whole["headers"]["redelivered"] = whole["properties"]["delivery_info"]["redelivered"] = True
    keyspace.push(whole)
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    for count in (2, 3, 4):
        held = await take(consumer, 1)
        assert counts(held) == {"a": count}
        await settle(consumer, Verdict.NACK, *held)
    await settle(consumer, Verdict.ACK, *await take(consumer, 1))
    keyspace.nothing_held()


# --- two with one tag -----------------------------------------------------------------------------


async def test_twins_do_not_overwrite_each_other(context: CaseContext, keyspace: KeySpace) -> None:
    """Two messages with one delivery tag, taken together: both run, and one end does not end the other."""
    keyspace.push(keyspace.kombu("a", tag="same"), keyspace.kombu("b", tag="same"), keyspace.kombu("c"))
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    held = await take(consumer, 3)
    assert sorted(ids_of(held)) == ["a", "b", "c"]
    assert len(keyspace.unacked()) == 2
    (letter,) = keyspace.letters()
    assert (letter.reason, letter.facts.id) == ("duplicate-tag", "b")
    assert list(await consumer.extend(held)) == [True] * 3
    assert await settle(consumer, Verdict.ACK, *held) == [Settled.CONFIRMED] * 3
    assert keyspace.letters() == []
    keyspace.nothing_held()


async def test_a_twin_of_what_is_held_is_kept_apart(context: CaseContext, keyspace: KeySpace) -> None:
    keyspace.push(keyspace.kombu("a", tag="same"))
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    (first,) = await take(consumer, 1)
    keyspace.push(keyspace.kombu("b", tag="same"))
    (twin,) = await take(consumer, 1)
    assert await settle(consumer, Verdict.ACK, first) == [Settled.CONFIRMED]
    await consumer.release([twin])
    # Alone now, it is a message like any other.
    (again,) = await take(consumer, 1)
    assert ids_of([again]) == ["b"]
    assert len(keyspace.unacked()) == 1
    await settle(consumer, Verdict.ACK, again)
    keyspace.nothing_held()
    assert keyspace.letters() == []


async def test_a_tag_that_only_the_index_remembers_is_free(context: CaseContext, keyspace: KeySpace) -> None:
    keyspace.raw("ZADD", keyspace.key("unacked_index"), "1", "stale")
    keyspace.push(keyspace.kombu("a", tag="stale"))
    backend = await context.open(lease=60)
    await take(backend.consumer(["q"]), 1)
    assert keyspace.letters() == []
    assert float(keyspace.raw("ZSCORE", keyspace.key("unacked_index"), "stale")) > 1e9


# --- elements that are no JSON to Python ----------------------------------------------------------


def sneaky(keyspace: KeySpace, case: str) -> bytes:
    text = json.dumps(keyspace.kombu("a", tag="sneaky"))
    ours = json.dumps(keyspace.kombu("a", tag="sneaky"), separators=(",", ":"))[:-2] + ',"timestamp":1.5}}'
    return {
        "control": text.replace("conformance.echo", "conformance\n.echo").encode(),
        "not-utf8": text.encode().replace(b"conformance.echo", b"conf\xff\xfe.echo"),
        "behind-zero": text.encode() + b"\0{}",
        "hexadecimal": text.replace('"retries": 0', '"retries": 0x10').encode(),
        "body": text.replace('"body": "', '"body": "\t').encode(),
        "ours-headers": ours.replace('"retries":0', '"retries":oops').encode(),
        "ours-not-utf8": ours.encode().replace(b"conformance.echo", b"conf\xff\xfe.echo"),
    }[case]


@pytest.mark.parametrize("peers", [False, True])
@pytest.mark.parametrize(
    "case", ["control", "not-utf8", "behind-zero", "hexadecimal", "body", "ours-headers", "ours-not-utf8"]
)
async def test_what_python_cannot_read_is_not_left_to_celery(
    context: CaseContext, keyspace: KeySpace, case: str, peers: bool
) -> None:
    """The server's decoder is lenient: such an element is moved out of ``unacked`` before anybody sees it."""
    if peers:
        keyspace.peers()
    raw = sneaky(keyspace, case)
    keyspace.push(raw, keyspace.kombu("good"))
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    held = await take(consumer, 2)
    keyspace.all_true()
    assert len(keyspace.unacked()) == 1
    (letter,) = keyspace.letters()
    assert (letter.reason, letter.as_it_came) == ("malformed", raw)
    odd = next(one for one in held if one.token.letter)
    assert list(await consumer.extend(held)) == [True, True]
    assert await settle(consumer, Verdict.REJECT, odd, reason="malformed", detail="so it is") == [Settled.CONFIRMED]
    (letter,) = keyspace.letters()
    # What could be read of it is kept as a message; otherwise all of it.
    assert letter.detail == "so it is"
    assert letter.as_it_came in (raw, read(raw).body)
    await settle(consumer, Verdict.ACK, *[one for one in held if one is not odd])
    keyspace.nothing_held()


# --- STARTED --------------------------------------------------------------------------------------


async def test_started_is_written_where_celery_listens(context: CaseContext, keyspace: KeySpace) -> None:
    keyspace.peers()
    backend = await context.open(lease=60)
    await context.submit(backend, context.message(id="ours"), context.message(id="silent", store_result=False))
    keyspace.push(keyspace.kombu("kombu"))
    held = await take(backend.consumer(["q"]), 3)
    for task in ("ours", "kombu"):
        document = json.loads(keyspace.result(task) or b"null")
        assert (document["status"], document["task_id"]) == ("STARTED", task)
        assert document["result"]["hostname"].count("@") == 1
        assert document["result"]["pid"] > 0
    assert keyspace.result("silent") is None
    assert 0 < keyspace.raw("TTL", keyspace.key("celery-task-meta-ours")) <= 86400
    assert len(held) == 3


@pytest.mark.parametrize(
    ("option", "written"), [("auto", False), ("on", True), ("off", False), ("other,q", True), ("other", False)]
)
async def test_started_is_written_as_the_option_says(
    context: CaseContext, keyspace: KeySpace, option: str, written: bool
) -> None:
    backend = await context.open(lease=60, celery=option)
    await context.submit(backend, context.message(id="a"))
    await take(backend.consumer(["q"]), 1)
    assert (keyspace.result("a") is not None) is written


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"status": "RETRY", "task_id": "a"}', "STARTED"),
        ('{"task_id": "a", "status": "RETRY"}', "STARTED"),
        ('{"status": "SUCCESS", "task_id": "a"}', "SUCCESS"),
        ('{"task_id": "a", "status": "REVOKED"}', "REVOKED"),
    ],
)
async def test_started_replaces_no_result(context: CaseContext, keyspace: KeySpace, before: str, after: str) -> None:
    keyspace.peers()
    keyspace.raw("SET", keyspace.key("celery-task-meta-a"), before)
    backend = await context.open(lease=60)
    await context.submit(backend, context.message(id="a"))
    await take(backend.consumer(["q"]), 1)
    assert json.loads(keyspace.result("a") or b"null")["status"] == after


async def test_started_is_in_the_format_of_results(context: CaseContext, keyspace: KeySpace) -> None:
    backend = await context.open(lease=60, celery="on", result_serializer="msgpack")
    for task in ("a", "b" * 300, 'odd "id" é'):
        await context.submit(backend, context.message(id=task))
    held = await take(backend.consumer(["q"]), 3)
    for task in ids_of(held):
        document = msgpack.unpackb(keyspace.result(task) or b"")
        assert (document["status"], document["task_id"]) == ("STARTED", task)


# --- delayed messages -----------------------------------------------------------------------------


async def test_what_is_due_comes_in_the_order_of_its_times(context: CaseContext, keyspace: KeySpace) -> None:
    backend = await context.open(lease=60)
    now = time.time()
    due = {"c": 0.5, "a": 0.3, "b": 0.4}
    for task, later in due.items():
        await context.submit(backend, context.message(id=task, not_before=now + later))
    consumer = backend.consumer(["q"])
    held = await take(consumer, 3)
    assert ids_of(held) == ["a", "b", "c"]
    assert keyspace.raw("EXISTS", keyspace.key("tranship:delayed:q"), keyspace.key("tranship:delayed-messages:q")) == 0
    assert keyspace.raw("EXISTS", keyspace.key("tranship:delayed-queues")) == 0


async def test_due_messages_are_not_lost_to_a_list_that_is_none(context: CaseContext, keyspace: KeySpace) -> None:
    """It is somebody else's string: said so, the message waits, and comes when the key is gone."""
    backend = await context.open(lease=60)
    await context.submit(backend, context.message(id="a", not_before=time.time() + 0.2))
    keyspace.raw("SET", keyspace.list(), "somebody else's")
    consumer = backend.consumer(["q"])
    with pytest.raises(BrokerRefused, match="q"):
        await consumer.receive(1, 3.0)
    assert keyspace.raw("ZCARD", keyspace.key("tranship:delayed:q")) == 1
    keyspace.raw("DEL", keyspace.list())
    assert ids_of(await take(consumer, 1)) == ["a"]


async def test_a_due_entry_without_message_is_forgotten(context: CaseContext, keyspace: KeySpace) -> None:
    backend = await context.open(lease=60)
    keyspace.raw("ZADD", keyspace.key("tranship:delayed:q"), "1", "nobody")
    assert not (await backend.consumer(["q"]).receive(1, 0.0)).deliveries
    assert keyspace.raw("EXISTS", keyspace.key("tranship:delayed:q")) == 0


# --- what the server refuses ----------------------------------------------------------------------


async def test_a_list_that_is_none_harms_no_other(context: CaseContext, keyspace: KeySpace) -> None:
    keyspace.raw("SET", keyspace.list("bad"), "somebody else's")
    backend = await context.open(lease=60)
    await context.submit(backend, context.message(id="a", priority=Priority.LOW, queue="bad"), context.message(id="b"))
    consumer = backend.consumer(["bad", "q"])
    assert sorted(ids_of(await take(consumer, 2))) == ["a", "b"]
    assert not (await consumer.receive(1, 0.0)).deliveries, (
        "a queue that cannot be used must not end the others' worker"
    )
    with pytest.raises(BrokerRefused, match="bad"):
        await backend.consumer(["bad"]).receive(1, 0.0)


@pytest.mark.parametrize("forbidden", ["zadd", "hset", "ltrim", "lrange", "set"])
async def test_what_the_user_may_not_do_loses_nothing(redis_variant: Callable[..., Service], forbidden: str) -> None:
    """Whichever step of a claim is refused: an error that names it, and everything is where it was."""
    service = redis_variant()
    raw = Raw(service)
    address = service.url.partition("://")[2].partition("/")[0]
    from tranship.testing.harness import Harness

    async with CaseContext(Harness(service.url), "acl") as context:
        keyspace = KeySpace(context, raw)
        await context.submit(await context.open(), *messages(context, "a", "b"))
        keyspace.push("rubbish")
        before = keyspace.elements()
        raw("ACL", "SETUSER", "poor", "on", ">pw", "~*", "&*", "+@all", f"-{forbidden}")
        url = f"redis://poor:pw@{address}/0?namespace={context.namespace}&lease=60"
        async with open_backend(url) as backend:
            with pytest.raises(BrokerRefused, match=forbidden.upper()):
                await backend.consumer(["q"]).receive(5, 0.0)
        assert keyspace.elements() == before
        assert keyspace.letters() == []
        keyspace.nothing_held()


async def test_what_celery_sends_is_read(context: CaseContext, keyspace: KeySpace) -> None:
    """Its golden elements, taken, are the messages they were."""
    vectors = sorted(GOLDEN.rglob("redis-*.json"))
    if not vectors:
        pytest.skip("no golden elements here")
    elements = [path.read_bytes().strip() for path in vectors]
    keyspace.push(*elements)
    backend = await context.open(lease=60)
    consumer = backend.consumer(["q"])
    held = await take(consumer, len(elements))
    keyspace.all_true()
    for one in held:
        assert decode(one.message, queue="q", priority=one.priority).id
    await consumer.release(held)
    assert keyspace.elements() == elements


async def test_claims_in_many_orders_do_not_fill_the_memory(context: CaseContext) -> None:
    """What is remembered of each order of queues is bounded, whatever is asked for."""
    names = [f"q-{number}" for number in range(1000)]
    async with opened(context.url(), namespace=context.namespace) as ctx:
        claims = Claims(ctx.options, ctx.keys, ctx.levels)
        for start in range(990):
            claims.claim(tuple(names[start : start + 8]), 1)
        assert len(claims._orders) <= 256
