"""What a submitter promises: every byte, every receipt, no duplicates, not before its time."""

from __future__ import annotations

import asyncio
import random
import threading
import time

from tranship.envelope import Priority, Receipt, new_id
from tranship.errors import ClosedError, MessageTooLarge
from tranship.ports import Backend, Capability, Delivery
from tranship.protocol import Message, RawMessage, decode
from tranship.retry import RetryPolicy
from tranship.testing.case import case
from tranship.testing.context import CaseContext, errors_in, headers_of, ids_of
from tranship.testing.suites.ports.dedup import DedupCases
from tranship.testing.suites.ports.delay import DelayCases

__all__ = ["SubmitterSuite"]

_KIBIBYTE = 1024
_BODIES = (
    b"[[], {}, {}]",
    bytes(range(256)),
    b"\x00\x00",
    b"\xff\xfe\xc3\x28",
    b"\n" * 3,
    "caf\u00e9 \U0001f418".encode(),
)


class _Content:
    """What arrives is what was handed over."""

    @case("submit_roundtrip_bytes", level="core", rationale="a byte changed on the way corrupts somebody's data")
    async def test_submit_roundtrip_bytes(self, context: CaseContext) -> None:
        """Bodies that are no text, with their content type, come back byte for byte."""
        backend = await context.open()
        sent = {
            message.envelope.id: message
            for message in (_with_body(context.message(), body, "application/data") for body in _BODIES)
        }
        await context.submit(backend, *sent.values())
        deliveries = await context.receive(backend.consumer(["q"]), len(sent))
        assert sorted(ids_of(deliveries)) == sorted(sent)
        for delivery in deliveries:
            _assert_same(delivery, sent[ids_of([delivery])[0]])

    @case("submit_envelope_fields", level="core", rationale="a lost header silently changes what the task means")
    async def test_submit_envelope_fields(self, context: CaseContext) -> None:
        """Everything the envelope says arrives, and so do headers nobody here knows."""
        backend = await context.open()
        now = time.time()
        message = context.message(
            args=(1, "b"),
            kwargs={"c": [None, True]},
            deadline=now + 600,
            run_timeout=3.5,
            cancel_key="job-7",
            persistent_output=True,
            retry=RetryPolicy(max_attempts=5),
            attempt=2,
            headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-mine": "kept"},
            group_id=new_id(),
            parent_id=new_id(),
            root_id=new_id(),
        )
        await context.submit(backend, message)
        (delivery,) = await context.receive(backend.consumer(["q"]))
        got = decode(delivery.message, queue=delivery.queue, priority=delivery.priority)
        for field in ("id", "task", "queue", "priority", "deadline", "run_timeout", "cancel_key", "attempt", "retry"):
            assert getattr(got, field) == getattr(message.envelope, field), field
        assert got.persistent_output
        assert (list(got.args), dict(got.kwargs)) == ([1, "b"], {"c": [None, True]})
        assert (got.group_id, got.parent_id, got.root_id) == tuple(
            getattr(message.envelope, name) for name in ("group_id", "parent_id", "root_id")
        )
        assert dict(message.envelope.headers).items() <= dict(got.headers).items()

    @case("submit_empty_and_max_body", level="core", rationale="a limit found by the broker costs the connection")
    async def test_submit_empty_and_max_body(self, context: CaseContext) -> None:
        """0 bytes and the limit pass; one byte more is refused, alone, with the numbers."""
        backend = await context.open(max_message_size=16 * _KIBIBYTE)
        limit = backend.submitter().max_message_size
        assert 0 < limit <= 16 * _KIBIBYTE
        empty, full, over = (_sized(context.message(), size) for size in (0, limit, limit + 1))
        empty_id, full_id = await context.submit(backend, empty, full)
        (refused,) = await backend.submitter().submit([over])
        assert isinstance(refused, MessageTooLarge), refused
        assert (refused.size, refused.limit, refused.task_id) == (limit + 1, limit, over.envelope.id)
        consumer = backend.consumer(["q"])
        got = {ids_of([one])[0]: len(one.message.body) for one in await context.receive(consumer, 2)}
        assert got == {empty_id: 0, full_id: len(full.body)}
        await context.quiet(consumer, 0.2)

    @case("submit_unicode_headers", level="core", rationale="header values are ASCII on some wires, and limited")
    async def test_submit_unicode_headers(self, context: CaseContext) -> None:
        """Non-ASCII values and 8 KiB of headers survive."""
        backend = await context.open()
        headers = {
            "x-name": "Zo\u00eb \u6f22\u5b57 \U0001f418",
            "x-quote": '"\\\n\t',
            "x-long": "\u00e9" * 4 * _KIBIBYTE,
        }
        await context.submit(backend, context.message(headers=headers))
        (delivery,) = await context.receive(backend.consumer(["q"]))
        got = decode(delivery.message, queue=delivery.queue, priority=delivery.priority)
        assert headers.items() <= dict(got.headers).items()


class _Receipts:
    """A receipt means that the broker has it."""

    @case("submit_confirmed", level="core", rationale="a receipt for a message that is not there is a lost task")
    async def test_submit_confirmed(self, context: CaseContext) -> None:
        """60 receipts, in order, for 60 messages that another backend then finds."""
        producer, other = await context.open(), await context.open()
        ids = await context.submit(producer, *context.messages(60))
        assert sorted(await context.drain(other.consumer(["q"]), 60)) == sorted(ids)

    @case(
        "submit_durable_before_return",
        level="capability",
        needs={Capability.DURABLE, Capability.CROSS_PROCESS},
        rationale="the submitter may die the moment submit() has returned",
    )
    async def test_submit_durable_before_return(self, context: CaseContext) -> None:
        """A process submits, says so, and is killed; nothing is missing."""
        ids = [new_id() for _ in range(20)]
        child = await context.child("submit", url=context.url(), queue="q", ids=ids)
        assert await child.line() == ["Receipt"] * 20
        await child.kill()
        backend = await context.open()
        assert sorted(await context.drain(backend.consumer(["q"]), 20)) == sorted(ids)

    @case("submit_batch_partial_failure", level="core", rationale="one bad task must not take its batch along")
    async def test_submit_batch_partial_failure(self, context: CaseContext) -> None:
        """The third of five is too large: the others are in, each answer stands where its message stood."""
        backend = await context.open(max_message_size=16 * _KIBIBYTE)
        batch = context.messages(5)
        batch[2] = _sized(batch[2], 16 * _KIBIBYTE + 1)
        answers = await backend.submitter().submit(batch)
        assert [answer for answer in answers if isinstance(answer, Receipt)] == [
            Receipt(message.envelope.id) for message in batch if message is not batch[2]
        ]
        assert isinstance(answers[2], MessageTooLarge)
        assert len(errors_in(answers)) == 1
        consumer = backend.consumer(["q"])
        expected = [message.envelope.id for message in batch if message is not batch[2]]
        assert sorted(await context.drain(consumer, 4)) == sorted(expected)
        await context.quiet(consumer, 0.2)

    @case("submit_concurrent_calls", level="core", rationale="calls may be merged; nobody may get another's answer")
    async def test_submit_concurrent_calls(self, context: CaseContext) -> None:
        """16 calls at once, ten messages each: every receipt is one's own and all arrive once."""
        backend = await context.open()
        calls = [context.submit(backend, *context.messages(10)) for _ in range(16)]
        ids = [one for batch in await asyncio.gather(*calls) for one in batch]
        consumer = backend.consumer(["q"])
        assert sorted(await context.drain(consumer, 160)) == sorted(ids)
        await context.quiet(consumer, 0.2)

    @case("submit_from_two_loops", level="core", rationale="one process, several threads, each with a loop")
    async def test_submit_from_two_loops(self, context: CaseContext) -> None:
        """Backends on other loops submit to a consumer that waits on this one."""
        backend = await context.open()
        consumer = backend.consumer(["q"])
        sets = [context.messages(10) for _ in range(2)]
        threads = [threading.Thread(target=_submit_elsewhere, args=(context, batch)) for batch in sets]
        for thread in threads:
            thread.start()
        got = await context.drain(consumer, 20)
        for thread in threads:
            await asyncio.get_running_loop().run_in_executor(None, thread.join, context.patience)
        assert sorted(got) == sorted(message.envelope.id for batch in sets for message in batch)

    @case("submit_cancelled_mid_write", level="core", rationale="an abandoned call must not shift others' answers")
    async def test_submit_cancelled_mid_write(self, context: CaseContext) -> None:
        """Calls cancelled at any point: those that follow get their own answers, and no message comes twice."""
        backend = await context.open()
        cancelled = context.messages(30)
        for message in cancelled:
            await _cancel_midway(context, backend, message)
        ids = [one for message in context.messages(50) for one in await context.submit(backend, message)]
        consumer = backend.consumer(["q"])
        got: list[str] = []
        while not set(ids) <= set(got):
            got += await context.drain(consumer, 1)
        while deliveries := (await consumer.receive(50, 0.3)).deliveries:
            got += ids_of(deliveries)
        assert len(got) == len(set(got)), "a message came twice"
        assert set(got) <= set(ids) | {message.envelope.id for message in cancelled}

    @case("submit_after_close", level="core", rationale="a closed backend says so; it neither hangs nor forgets")
    async def test_submit_after_close(self, context: CaseContext) -> None:
        """ClosedError, and nothing is queued."""
        backend, other = await context.open(), await context.open()
        submitter = backend.submitter()
        await backend.aclose()
        try:
            answers = await submitter.submit([context.message()])
        except ClosedError:
            answers = []
        assert not answers, f"submit after aclose answered {answers}"
        await context.quiet(other.consumer(["q"]), 0.2)


class SubmitterSuite(_Content, _Receipts, DedupCases, DelayCases):
    """Everything about handing over: content, receipts, duplicates, not-before times."""


def _with_body(message: Message, body: bytes, content_type: str) -> Message:
    return Message(message.envelope, message.headers, body, content_type, "binary")


def _sized(message: Message, size: int) -> Message:
    """Return the message with a body that makes it ``size`` bytes in all; 0: with no body."""
    room = size - len(message.headers) if size else 0
    return Message(message.envelope, message.headers, b"x" * room, "application/data", "binary")


def _assert_same(delivery: Delivery, sent: Message) -> None:
    raw = delivery.message
    assert bytes(raw.body) == sent.body
    assert (raw.content_type, raw.content_encoding) == (sent.content_type, sent.content_encoding)
    assert (delivery.queue, delivery.priority) == ("q", Priority.NORMAL)
    expected = headers_of(
        Delivery(
            message=RawMessage(sent.headers, sent.body, sent.content_type, sent.content_encoding),
            queue="q",
            priority=Priority.NORMAL,
            token=None,
        )
    )
    assert expected.items() <= headers_of(delivery).items()


def _submit_elsewhere(context: CaseContext, batch: list[Message]) -> None:
    async def run() -> None:
        backend = context.harness.make_backend(context.url())
        await backend.open()
        try:
            await context.submit(backend, *batch)
        finally:
            await backend.aclose()

    asyncio.run(run())


async def _cancel_midway(context: CaseContext, backend: Backend, message: Message) -> None:
    call = context.start(context.submit(backend, message))
    for _ in range(random.randrange(4)):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
