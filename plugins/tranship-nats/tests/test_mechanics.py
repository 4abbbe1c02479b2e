"""How it is done on JetStream, where the promises of the ports leave a choice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nats_kit import connected, variant_lab

from tranship.envelope import Priority, Receipt
from tranship.errors import InvalidOptionError
from tranship.ports import Backend, Settled, Settlement, StoredResult, Verdict
from tranship.protocol import decode
from tranship.settings import BrokerURL
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.services import Service
from tranship.testing.suites.ports.results import PushedResults
from tranship_nats._consumers import made
from tranship_nats._naming import Names
from tranship_nats._options import NatsOptions
from tranship_nats._streams import _definitions

pytestmark = pytest.mark.timeout(60)


# Results.


async def test_others_are_told_that_there_is_a_result(lab: CaseContext) -> None:
    submitter, watcher, worker = await lab.open(), await lab.open(), await lab.open()
    inbox = PushedResults(watcher.results(), lab)
    inbox.store.expect(["a"])
    await inbox.store.get_many(["a"])
    await worker.results().put([_to(lab.result("a", 1), submitter.address)])
    assert (await inbox.get("a")).state.terminal


async def test_the_same_result_again_is_told_again(lab: CaseContext) -> None:
    """Its first answer may have been lost with the push."""
    backend, worker = await lab.open(), await lab.open()
    result = lab.result("a", 1)
    assert list(await worker.results().put([result])) == [True]
    inbox = PushedResults(backend.results(), lab)
    inbox.store.expect(["a"])
    await connected(backend).settled()
    await worker.results().put([result])
    assert (await inbox.get("a")).document == result.document


async def test_ids_of_all_kinds_have_results(lab: CaseContext) -> None:
    backend, worker = await lab.open(), await lab.open()
    inbox = PushedResults(backend.results(), lab)
    ids = ["Upper", "with space", "é", "a.b.>", "x" * 400]
    for task_id in ids:
        message = lab.message(id=task_id, reply_to=backend.address)
        await lab.submit(backend, message)
    inbox.store.expect(ids)
    await worker.results().put([_to(lab.result(one, one), backend.address) for one in ids])
    for task_id in ids:
        assert (await inbox.get(task_id)).id == task_id
    assert [one.id for one in await worker.results().get_many(ids) if one.state.terminal] == ids


# Duplicates.


async def test_one_of_many_at_once_gets_the_key(lab: CaseContext) -> None:
    backends = [await lab.open() for _ in range(4)]
    messages = [lab.message(dedup_key="k") for _ in backends]
    answers = await asyncio.gather(
        *(backend.submitter().submit([one]) for backend, one in zip(backends, messages, strict=True))
    )
    owners = {answer.duplicate_of for (answer,) in answers if isinstance(answer, Receipt)}
    first = [answer.id for (answer,) in answers if isinstance(answer, Receipt) and answer.duplicate_of is None]
    assert len(first) == 1
    assert owners == {None, first[0]}


async def test_a_delayed_task_is_recognised_when_it_is_submitted_again_after_its_time(lab: CaseContext) -> None:
    backend = await lab.open()
    message = lab.message(not_before=time.time() + 0.3)
    await lab.submit(backend, message)
    consumer = backend.consumer(["q"])
    assert await lab.drain(consumer, 1) == [message.envelope.id]
    assert await backend.submitter().submit([message]) == [
        Receipt(message.envelope.id, duplicate_of=message.envelope.id)
    ]
    await lab.quiet(consumer, 0.3)


async def test_a_retry_of_a_finished_task_is_recognised_by_its_result(lab: CaseContext) -> None:
    """The stream forgets what was removed when the server restarts; the result is still there."""
    backend = await lab.open(duplicate_window=0.2)
    message = lab.message()
    await lab.submit(backend, message)
    await lab.drain(backend.consumer(["q"]), 1)
    await backend.results().put([lab.result(message.envelope.id, 1)])
    await lab.pass_time(0.5)
    message.tries, message.check_id = 1, True
    (answer,) = await backend.submitter().submit([message])
    assert answer == Receipt(message.envelope.id, duplicate_of=message.envelope.id)


# Deliveries.


async def test_what_nobody_asked_for_goes_back_soon(lab: CaseContext) -> None:
    """Two queues wake one receiver that wanted one: the other message is there for others within the lease."""
    backend, other = await lab.open(lease=60), await lab.open(lease=60)
    consumer = backend.consumer(["a", "b"])
    waiting = lab.start(consumer.receive(1, 10.0))
    await lab.wait_for(waiting, 0.3)
    ids = await lab.submit(other, lab.message(queue="a"), lab.message(queue="b"))
    mine = ids_of((await waiting).deliveries)
    rest = await lab.receive(other.consumer(["a", "b"]))
    assert sorted([*mine, *ids_of(rest)]) == sorted(ids)


async def test_a_cancelled_receive_gives_back_what_was_under_way(lab: CaseContext) -> None:
    backend, other = await lab.open(lease=60), await lab.open(lease=60)
    ids = await lab.submit(other, *lab.messages(20))
    consumer = backend.consumer(["q"])
    for steps in range(12):
        call = lab.start(consumer.receive(5, 5.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        for found in await asyncio.gather(call, return_exceptions=True):
            if not isinstance(found, BaseException):
                await consumer.release(found.deliveries)
    assert sorted(await lab.drain(other.consumer(["q"]), 20)) == sorted(ids)


async def test_what_is_given_back_beside_a_receive_that_was_left(lab: CaseContext) -> None:
    """A request whose inbox has gone makes nats-server 2.9 lose what it redelivers, and deliver another one twice."""
    backend, other = await lab.open(lease=60), await lab.open(lease=60)
    ids = await lab.submit(backend, *lab.messages(2))
    consumer = backend.consumer(["q"])
    held = await lab.receive(consumer, 2)
    for end in (consumer.release, lambda held: lab.settle(consumer, Verdict.NACK, *held)):
        rival = other.consumer(["q"])
        waiting = lab.start(rival.receive(1, 5.0))
        await lab.wait_for(waiting, 0.3)
        await rival.aclose()
        await asyncio.gather(waiting, return_exceptions=True)
        # The server has heard of it: what it gives to the rival before comes back, but in another order.
        await connected(other).settled()
        await end(held)
        held = await lab.receive(consumer, 2)
        assert ids_of(held) == ids
        await lab.quiet(other.consumer(["q"]), 0.2)


async def test_many_make_a_stream_at_one_moment(nats_service: Service, lab: CaseContext) -> None:
    """Of a stream that it is making, nats-server 2.9 may say that its subjects overlap with another's."""
    makers = [connected(await lab.open()).streams for _ in range(8)]
    jetstream = (await lab.open()).native.jetstream()
    # It does so for one stream in thirty.
    for number in range(150):
        definition = _definitions(Names(f"{lab.namespace}-{number}", None), NatsOptions())["delay"]
        nats_service.pause()
        making = [lab.start(streams._create(definition)) for streams in makers]
        # All of them ask, and are heard together.
        asyncio.get_running_loop().call_later(0.003, nats_service.resume)
        assert {info["config"]["name"] for info in await asyncio.gather(*making)} == {definition.name}
        await jetstream.delete_stream(definition.name)


async def test_the_first_of_many_at_one_moment_chooses_the_lease(lab: CaseContext) -> None:
    backends = [await lab.open(storage="memory") for _ in range(8)]
    work, *_ = await asyncio.gather(*(connected(backend).streams.need("work") for backend in backends))
    version = backends[0].native.connected_server_version  # type: ignore[attr-defined]
    if (version.major, version.minor) < (2, 10):
        pytest.skip("this server changes a consumer that it is asked to create")
    for number in range(50):
        leases = await asyncio.gather(
            *(
                made(connected(backend).js, work, f"at-once-{number}", f"t.{number}", ack_wait=1 + which, pending=1)
                for which, backend in enumerate(backends)
            )
        )
        assert len(set(leases)) == 1


async def test_the_lease_that_the_server_has_counts(lab: CaseContext, caplog: pytest.LogCaptureFixture) -> None:
    await (await lab.open(lease=2)).ensure(["q"])
    backend = await lab.open(lease=30)
    with caplog.at_level(logging.WARNING, "tranship.nats"):
        await backend.ensure(["q"])
    assert backend.consumer(["q"]).lease == 2
    assert "were made with a lease of 2 s, the URL says 30 s" in caplog.text


async def test_settling_by_the_clock(lab: CaseContext) -> None:
    """The server would take a late acknowledgement, and remove the message from under its new owner."""
    backend, other = await lab.open(lease=0.5), await lab.open(lease=0.5)
    await lab.submit(backend, lab.message())
    consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
    (late,) = await lab.receive(consumer)
    (mine,) = await lab.receive(rival)
    # By our clock the lease began when the message came; a busy machine hears of it after the server has sent it.
    await lab.pass_time(max(0.0, late.token.until - asyncio.get_running_loop().time()))
    assert await consumer.extend([late]) == [False]
    assert await consumer.settle([Settlement(late, Verdict.ACK)]) == [Settled.LOST]
    await consumer.release([late])
    assert await rival.extend([mine]) == [True]
    assert await rival.settle([Settlement(mine, Verdict.ACK)]) == [Settled.CONFIRMED]


async def test_names_of_all_kinds_are_queues(lab: CaseContext) -> None:
    backend = await lab.open()
    queues = ["Upper", "a.b", "with space", "é" * 100, "x" * 900]
    sent = [lab.message(queue=queue, priority=Priority.LOW) for queue in queues]
    await lab.submit(backend, *sent)
    assert [info.name for info in await backend.inspector().queues()] == sorted(queues)
    deliveries = await lab.receive(backend.consumer(queues), len(queues))
    assert {(one.queue, one.priority) for one in deliveries} == {(queue, Priority.LOW) for queue in queues}
    with pytest.raises(InvalidOptionError, match="at most 1000 bytes"):
        await backend.ensure(["x" * 1001])


async def test_a_message_of_somebody_else_can_be_buried(lab: CaseContext) -> None:
    backend = await lab.open()
    await backend.ensure(["q"])
    subject = connected(backend).broker.names.task("q", Priority.NORMAL)
    await backend.native.jetstream().publish(subject, b"hello")
    consumer = backend.consumer(["q"])
    (held,) = await lab.receive(consumer)
    await lab.settle(consumer, Verdict.REJECT, held, reason="malformed", detail="no\nheaders")
    (letter,) = await backend.inspector().dead()
    assert (letter.task_id, letter.body, letter.reason, letter.detail) == (None, b"hello", "malformed", "no\nheaders")


async def test_what_was_settled_does_not_run_again_when_the_server_is_killed(
    nats_variant: Callable[..., Service],
) -> None:
    """The server writes down late what it has removed; what it sends again is recognised here."""
    service = nats_variant()
    async with variant_lab(service) as lab:
        backend = await lab.open()
        consumer = backend.consumer(["q"])
        ids = await lab.submit(backend, *lab.messages(200))
        held = await lab.receive(consumer, 200)
        assert ids_of(held) == ids
        await lab.settle(consumer, Verdict.ACK, *held[:150])
        await asyncio.to_thread(service.kill)
        await asyncio.to_thread(service.start)
        late = await _submit(lab, backend)
        assert ids_of(await lab.receive(consumer)) == late, "neither what was settled nor what is held comes again"
        await lab.quiet(consumer, 0.5)
        answers = await consumer.settle([Settlement(one, Verdict.ACK) for one in held[150:]])
        assert set(answers) == {Settled.CONFIRMED}


# Delays.


async def test_a_server_that_is_stopped_keeps_its_counts(nats_service: Service, lab: CaseContext) -> None:
    """One that is killed may not: it writes them down a moment later. What was given back comes when its lease ends."""
    backend = await lab.open(lease=3)
    await lab.submit(backend, lab.message())
    counts: list[int] = []
    for _ in range(3):
        consumer = backend.consumer(["q"])
        (delivery,) = await lab.receive(consumer)
        counts.append(delivery.delivery_count)
        await lab.settle(consumer, Verdict.NACK, delivery)
        await consumer.aclose()
    await asyncio.to_thread(nats_service.restart)
    (delivery,) = await lab.receive((await lab.open(lease=3)).consumer(["q"]), within=20.0)
    counts.append(delivery.delivery_count)
    assert counts == sorted(set(counts)), counts
    assert counts[-1] >= 4


async def test_a_delayed_task_may_be_cancelled_while_its_forwarder_holds_it(lab: CaseContext) -> None:
    from tranship.ports import Tombstone

    backend = await lab.open()
    consumer = backend.consumer(["q"])
    await lab.quiet(consumer, 0.1)
    (doomed, spared) = await lab.submit(
        backend, lab.message(not_before=time.time() + 1.0), lab.message(not_before=time.time() + 1.0)
    )
    report = await backend.control().cancel([Tombstone(kind="id", value=doomed, expires=time.time() + 60)])
    assert list(report.removed) == [doomed]
    assert await lab.drain(consumer, 1) == [spared]
    await lab.quiet(consumer, 0.5)


async def test_what_was_taken_early_and_became_due_meanwhile_is_lost(lab: CaseContext) -> None:
    backend = await lab.open()
    (task_id,) = await lab.submit(backend, lab.message(not_before=time.time() + 0.8))
    mover, consumer = backend.consumer(["q"]), backend.consumer(["q"])
    (early,) = (await mover.receive_early(5)).deliveries
    assert await lab.drain(consumer, 1) == [task_id]
    assert await mover.settle([Settlement(early, Verdict.ACK)]) == [Settled.LOST]


async def _submit(lab: CaseContext, backend: Backend) -> list[str]:
    message = lab.message()

    async def accepted() -> bool:
        return isinstance((await backend.submitter().submit([message]))[0], Receipt)

    await lab.eventually(accepted, "a submit succeeds again")
    return [message.envelope.id]


def _to(result: StoredResult, address: str | None) -> StoredResult:
    return StoredResult(id=result.id, state=result.state, document=result.document, reply_to=address)


async def test_the_foreign_submitter_of_the_documentation(lab: CaseContext) -> None:
    page = Path(__file__).parents[3] / "docs" / "explanation" / "nats.md"
    program = page.read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    backend = await lab.open()
    await backend.ensure(["default"])
    names, url = connected(backend).broker.names, BrokerURL.parse(backend.url)
    program = program.replace("nats://localhost", f"nats://{url.host}:{url.port}").replace(
        "tranship.t", f"{names.root}.t"
    )
    scope: dict[str, Any] = {}
    exec(compile(program, str(page), "exec"), scope)
    await scope["submit"](7)
    (delivery,) = await lab.receive(backend.consumer(["default"]))
    envelope = decode(delivery.message, queue=delivery.queue, priority=delivery.priority)
    assert (envelope.id, envelope.task, list(envelope.args)) == ("order-7", "shop.ship", [7])
