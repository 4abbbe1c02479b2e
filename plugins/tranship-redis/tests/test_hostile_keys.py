"""Random texts of a stranger in every key that our scripts read: nothing stops, nothing is lost, nothing goes on for ever."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
from redis_kit import NORMAL, Raw, element, list_of, ours
from test_foreign_elements import assert_nothing_held

from tranship import AsyncClient, Worker, task
from tranship.errors import MalformedMessage
from tranship.ports import Consumer, Delivery, Settled, Settlement, Verdict
from tranship.protocol import decode
from tranship.testing.context import CaseContext

pytestmark = pytest.mark.timeout(120)

MARKS = [
    *[
        b'"',
        b"\\",
        b"\0",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\xff",
        b"\xc3",
        b"\x06\x16",
        b" " * 40,
        b"'",
        b"%",
        b"-",
    ],
    *[b'", "', b'"]', b'", "", "q"]', b'"properties":', b'"properties": {', b'"content-encoding":', b'"headers":null,'],
    *[
        b'"delivery_tag":',
        b'"delivery_tag":1.5,',
        b'"delivery_tag":-0,',
        b'"delivery_tag":' + b"9" * 400 + b",",
        b"1e999",
    ],
    *[
        b'"redelivered": true,',
        b'"timestamp":1}}',
        b'"exchange":"',
        b'{"body":"',
        b'{"body": "',
        b"\xed\xa0\x80",
        b"\\ud800",
    ],
    *[b"null", b"true", b"NaN", b"Infinity", b"[" * 300, b'{"a":' * 300, b"\x81\xa6status\xa7SUCCESS", b'{"status": "'],
]
"""What scripts and decoders look for, or stumble over."""


@task(name="conformance.echo", queue="q")
def echo(value: object = None) -> object:
    return value


class Chance:
    """Texts that are nearly right."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def spoil(self, text: bytes) -> bytes:
        """Change a few places of ``text``."""
        for _ in range(self.dice.choice((1, 1, 2, 5))):
            text = self._spoil(text)
        return text

    def _spoil(self, text: bytes) -> bytes:
        start, stop = sorted(self.dice.randrange(len(text) + 1) for _ in range(2))
        stop = min(stop, start + 40)
        piece = self.dice.choice([b"", b"", text[start:stop] * 2, self.dice.choice(MARKS), self.dice.randbytes(3)])
        return text[: self.dice.choice((start, stop))] + piece + text[stop:]

    def garbage(self) -> bytes:
        """A text of marks and nothing else."""
        return b"".join(self.dice.choices(MARKS, k=self.dice.randrange(1, 12)))


@pytest.fixture(params=[1, 2])
def chance(request: pytest.FixtureRequest) -> Chance:
    return Chance(request.param)


def good(context: CaseContext, number: int) -> bytes:
    """A message as Celery writes it, or as we do."""
    whole = element(context, id=f"good-{number}", args=(number,))
    if number % 2:
        return json.dumps(whole).encode()
    whole["properties"]["timestamp"] = 1.5
    return json.dumps(whole, separators=(",", ":")).encode()


@pytest.mark.parametrize("celery", ["on", "off"])
async def test_every_element_is_delivered_or_a_dead_letter(
    context: CaseContext, raw: Raw, chance: Chance, celery: str
) -> None:
    """Settled, given back and nacked in between: in the end each is accounted for, and every good one has come."""
    pushed = [chance.spoil(good(context, 1000 + number)) for number in range(120)]
    pushed += [chance.garbage() for _ in range(30)]
    pushed += [good(context, number) for number in range(20)]
    chance.dice.shuffle(pushed)
    for one in pushed:
        raw("LPUSH", list_of(context) if chance.dice.random() < 0.8 else f"{context.namespace}:q", one)
    backend = await context.open(lease=60, celery=celery)
    consumer, inspector = backend.consumer(["q"]), backend.inspector()
    done = await served(consumer, chance)
    await inspector.queues()
    # What has been told apart by its tag only is among the letters, too.
    assert len(done) == len(pushed)
    fine = Counter(one for one in done if one)
    assert {f"good-{number}" for number in range(20)} <= fine.keys()
    assert raw("ZCARD", ours(context, "tranship:rows:d")) == done.count("")
    assert len(await inspector.dead(limit=1000)) == done.count("")
    assert_nothing_held(context, raw)


async def served(consumer: Consumer, chance: Chance) -> list[str]:
    """Take all there is; return the ids of tasks, and an empty text for each that was none."""
    done: list[str] = []
    back, end = 40, time.monotonic() + 60
    while (found := (await consumer.receive(chance.dice.choice((1, 7, 100)), 0)).deliveries) and time.monotonic() < end:
        settlements = []
        for one in found:
            name = id_of(one)
            # What is set apart already stays there when it is nacked.
            if back and not one.token.letter and chance.dice.random() < 0.2:
                back -= 1
                settlements.append(Settlement(one, Verdict.NACK))
                continue
            done.append(name)
            ending = Settlement(one, Verdict.ACK) if name else Settlement(one, Verdict.REJECT, reason="malformed")
            settlements.append(ending)
        if back and chance.dice.random() < 0.3:
            back -= 1
            del done[len(done) - sum(one.verdict is not Verdict.NACK for one in settlements) :]
            await consumer.release([one.delivery for one in settlements])
            continue
        assert set(await consumer.settle(settlements)) == {Settled.CONFIRMED}
    return done


def id_of(delivery: Delivery) -> str:
    """The id of the task; empty where the core refuses it, or it was set apart already."""
    try:
        name = decode(delivery.message, queue="q", priority=delivery.priority).id
    except MalformedMessage:
        return ""
    return "" if delivery.token.letter else name


async def test_spoilt_leases_and_held_messages_stop_no_sweep(context: CaseContext, raw: Raw, chance: Chance) -> None:
    """Among garbage in ``unacked``, its index and the leases, what a dead worker held comes back."""
    first = await context.open(lease=60)
    sent = await context.submit(first, *context.messages(5))
    held = await context.receive(first.consumer(["q"]), 5)
    for number in range(60):
        tag, list_ = b"tag-%d" % number, list_of(context, "elsewhere")
        value = b'[%b, "", "elsewhere"]' % good(context, number)
        raw("HSET", ours(context, "unacked"), tag, chance.garbage() if number % 3 == 0 else chance.spoil(value))
        raw("ZADD", ours(context, "unacked_index"), "1", tag)
        token = b"%b\0%b\0somebody-%d" % (list_, tag, number)
        raw("ZADD", ours(context, "tranship:leases"), "1", chance.spoil(token) if number % 2 else token)
    for one in held:
        raw("ZADD", ours(context, "tranship:leases"), "XX", "1", one.token.token)
        raw("ZADD", ours(context, "unacked_index"), "XX", "0.5", one.token.tag)
    other = await context.open(lease=0.2, visibility_timeout=0.5)
    consumer = other.consumer(["q"])
    assert sorted(await context.drain(consumer, 5)) == sorted(sent)

    async def swept() -> bool:
        return raw("ZCOUNT", ours(context, "tranship:leases"), "-inf", "1000") == 0

    await context.eventually(swept, "nothing is left to sweep")


async def test_spoilt_delayed_messages_become_due_all_the_same(context: CaseContext, raw: Raw, chance: Chance) -> None:
    """With steps that are none, messages that are none, ids without a message."""
    backend = await context.open(lease=60)
    consumer, sent = backend.consumer(["q"]), 0
    for number in range(60):
        name = chance.garbage() + b"%d" % number
        raw("ZADD", ours(context, "tranship:delayed:q"), str(number), name)
        if number % 5:
            message = chance.dice.choice((b"3", b"0", b"9", b"7", b"x", b"")) + chance.spoil(good(context, number))
            raw("HSET", ours(context, "tranship:delayed-messages:q"), name, message)
            sent += 1
    assert len(await served(consumer, chance)) == sent
    assert (
        raw("ZCARD", ours(context, "tranship:delayed:q"))
        == raw("HLEN", ours(context, "tranship:delayed-messages:q"))
        == 0
    )
    assert [
        key
        for key in raw("KEYS", f"{context.namespace}:q*")
        if key.startswith(f"{context.namespace}:q".encode() + NORMAL[:2])
    ] == []
    assert_nothing_held(context, raw)


async def test_spoilt_results_give_way_or_stay(context: CaseContext, raw: Raw, chance: Chance) -> None:
    backend = await context.open()
    results = backend.results()
    text = context.result("text").document
    for number in range(60):
        name = f"id-{number}"
        raw("SET", ours(context, f"celery-task-meta-{name}"), chance.garbage() if number % 3 else chance.spoil(text))
        (before,) = await results.get_many([name])
        (won,) = await results.put([context.result(name, "ours")])
        (after,) = await results.get_many([name])
        assert won or after == before
        if won:
            assert after.document == context.result(name, "ours").document


async def test_spoilt_signals_and_broadcasts_stop_no_worker(
    context: CaseContext, raw: Raw, chance: Chance, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    url = context.url()
    worker = Worker(url, tasks=[echo], result_url=url)
    serving = context.start(worker.serve())
    async with AsyncClient(url, result_url=url) as client:
        assert await (await client.submit(echo, 1)).result(15) == 1
        broadcasts: dict[bytes, Callable[[], bytes]] = {
            b"celery.pidbox": lambda: json.dumps(broadcast(context)).encode(),
            b"tranship.z": lambda: b'["id","x",1e9,true]',
            b"tranship.c": lambda: b'["stop",{},["w-1"],"mark"]',
        }
        for _ in range(100):
            for name, make in broadcasts.items():
                text = chance.spoil(make()) if chance.dice.random() < 0.8 else chance.garbage()
                raw("PUBLISH", f"{context.namespace}:/0.".encode() + name, text)
        assert await (await client.submit(echo, 2)).result(15) == 2
    assert worker.status().ready
    worker.stop()
    await serving


def broadcast(context: CaseContext) -> dict[str, object]:
    whole = element(context, id="a")
    return {**whole, "headers": {"clock": 1, "expires": None}, "body": "eyJtZXRob2QiOiAicGluZyJ9"}
