"""Names that mean something to Redis: in namespaces, queues, ids and keys they are only names."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from urllib.parse import quote

import pytest
from redis_kit import Raw, element, opened, ours

from tranship import AsyncClient, Worker, task
from tranship.envelope import Receipt
from tranship.errors import InvalidOptionError
from tranship.ports import Signal, Tombstone, Verdict
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.suites.ports.control import Feed

pytestmark = pytest.mark.timeout(120)

ODD = [
    "with space",
    "\u00fcn\u00ef \u6f22",
    'quo"te\\',
    "new\nline",
    "\u2028",
    "{}",
    "*",
    "[a-z]?",
    "x\x00y",
    "a" * 250,
]


@task(name="names.echo", queue="q")
async def echo(value: object) -> object:
    return value


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name[:12]))
async def test_ids_keys_and_queues_are_only_names(context: CaseContext, name: str) -> None:
    """Submitted, delayed, deduplicated, run, cancelled and buried under any name; everything is found under it."""
    url, queue = context.url(), name.replace("\0", "-").replace("\n", "-")
    async with AsyncClient(url, result_url=url) as client:
        odd = echo.options(task_id=name, dedup_key=name, cancel_key=name, queue=queue)
        first, again = await client.submit(odd, 1), await client.submit(odd, 2)
        assert (first.id, again.duplicate) == (name, True)
        worker = Worker(url, tasks=[echo], result_url=url, queues=[queue])
        serving = context.start(worker.serve())
        assert await first.result(10) == 1
        worker.stop()
        await serving
        assert (await client.submit(odd, 3)).duplicate
    backend = await context.open()
    delayed = context.message(id=f"{name}-2", queue=queue, not_before=time.time() + 3600)
    await context.submit(backend, delayed)
    report = await backend.control().cancel([Tombstone(kind="id", value=f"{name}-2", expires=time.time() + 60)])
    assert list(report.removed) == [f"{name}-2"]
    ids = await context.submit(backend, context.message(id=f"{name}-3", queue=queue))
    consumer = backend.consumer([queue])
    held = await context.receive(consumer)
    assert (ids_of(held), held[0].queue) == (ids, queue)
    await context.settle(consumer, Verdict.REJECT, *held, reason="kit", detail="on purpose")
    assert [letter.task_id for letter in await backend.inspector().dead(queue)] == ids
    assert list(await backend.inspector().dead_replay(ids)) == ids
    assert await context.drain(consumer, 1) == ids


async def test_a_queue_no_worker_can_serve_is_refused(context: CaseContext) -> None:
    """A zero character stands between the parts of a claim: refused wherever it is named, and alone."""
    backend = await context.open()
    with pytest.raises(InvalidOptionError, match="queue"):
        backend.consumer(["x\0y"])
    good = context.message()
    refused, accepted = await backend.submitter().submit([context.message(queue="x\0y"), good])
    assert isinstance(refused, InvalidOptionError), refused
    assert accepted == Receipt(good.envelope.id)


@pytest.mark.parametrize("namespace", ["a*", "[ab]c", "a?", "back\\slash", "sp ace", "\u00fc:", "%41"])
async def test_a_namespace_is_no_pattern(raw: Raw, namespace: str) -> None:
    """Its signals are its own, those that come over Celery's mailbox included, and the other way round."""
    base = f"redis://{raw.address}/0?namespace="
    salt = uuid.uuid4().hex
    here, there = f"{base}{quote(salt + namespace)}", f"{base}{quote(salt)}ac"
    async with opened(here) as one, opened(there) as two:
        mine, theirs = await Feed.open(one, "w-1"), await Feed.open(two, "w-2")
        for backend, value in ((one, "mine"), (two, "theirs")):
            await backend.control().cancel([Tombstone(kind="id", value=value, expires=time.time() + 60)])
        await mine.until("mine")
        await theirs.until("theirs")
        # What was published before this has been heard.
        for backend, feed, value in ((one, mine, "last"), (two, theirs, "last")):
            await backend.control().cancel([Tombstone(kind="key", value=value, expires=time.time() + 60)])
            await feed.until(value)
        assert mine.tombstones() == {"mine", "last"}
        assert theirs.tombstones() == {"theirs", "last"}


async def test_celerys_revokes_reach_the_namespace_they_are_for(raw: Raw) -> None:
    salt = uuid.uuid4().hex
    heard: dict[str, list[Signal]] = {"a*": [], "ab": []}
    async with (
        opened(f"redis://{raw.address}/0?namespace={salt}{quote('a*')}") as one,
        opened(f"redis://{raw.address}/0?namespace={salt}ab") as two,
    ):
        await one.control().listen(heard["a*"].extend, worker="w-1")
        await two.control().listen(heard["ab"].extend, worker="w-2")
        revoke = {"method": "revoke", "arguments": {"task_id": "t-1", "terminate": False}, "destination": None}
        envelope = {
            "body": json.dumps(revoke),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 1, "expires": 0},
            "properties": {"delivery_tag": "t", "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}},
        }
        raw("PUBLISH", f"{salt}ab:/0.celery.pidbox", json.dumps(envelope))
        for _ in range(200):
            if heard["ab"]:
                break
            await asyncio.sleep(0.01)
        assert [signal.value for signal in heard["ab"] if isinstance(signal, Tombstone)] == ["t-1"]
        assert heard["a*"] == []


async def test_what_celery_left_behind_is_restored_and_rubbish_beside_it_harms_nobody(
    context: CaseContext, raw: Raw
) -> None:
    """A Celery worker died long ago; somebody has written nonsense into what it held."""
    whole = element(context, id="left-1")
    long_ago = str(time.time() - 7200)
    raw("HSET", ours(context, "unacked"), "tag-left", json.dumps([whole, "", "q"]))
    raw("ZADD", ours(context, "unacked_index"), long_ago, "tag-left")
    for number, rubbish in enumerate([b"hello", b"[]", b"\xff", b'{"a": 1}', b"[1, 2, 3]", b'["x", "", "q"]']):
        raw("HSET", ours(context, "unacked"), f"rubbish-{number}", rubbish)
        raw("ZADD", ours(context, "unacked_index"), long_ago, f"rubbish-{number}")
    raw("ZADD", ours(context, "unacked_index"), long_ago, "nothing-held")
    backend = await context.open()
    consumer = backend.consumer(["q"])
    (held,) = await context.receive(consumer)
    assert ids_of([held]) == ["left-1"]
    assert held.delivery_count >= 2
    await context.settle(consumer, Verdict.ACK, held)
    ids = await context.submit(backend, context.message())
    assert await context.drain(consumer, 1) == ids
