"""Servers that lack something, refuse something, or are full: the error names the cause and the cure."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from nats_kit import connected, make, message, opened, url_of, variant_lab

from tranship import AsyncClient, Worker, task
from tranship.envelope import Receipt, TaskState
from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    MessageTooLarge,
    StorageFull,
    TranshipError,
    UnsupportedError,
)
from tranship.ports import Backend, Capability, Consumer, Verdict
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.services import Service

pytestmark = pytest.mark.timeout(90)

README = Path(__file__).parents[1] / "README.md"
Variant = Callable[..., Service]


async def refusal(url: str) -> TranshipError:
    """Return what opening raises, and see that it holds no password."""
    backend = make(url)
    try:
        with pytest.raises(TranshipError) as caught:
            await asyncio.wait_for(backend.open(), 20)
    finally:
        await backend.aclose()
    assert "hush" not in str(caught.value)
    return caught.value


async def test_a_server_without_jetstream(nats_variant: Variant) -> None:
    error = await refusal(nats_variant(jetstream=False).url)
    assert isinstance(error, UnsupportedError)
    assert "start the server with -js" in str(error)


async def test_an_account_without_jetstream(nats_variant: Variant) -> None:
    service = nats_variant('accounts { A: { users: [{ user: "a", password: "hush" }] }, B: { jetstream: enabled } }')
    error = await refusal(url_of(service, "a:hush"))
    assert isinstance(error, UnsupportedError)
    assert "enable JetStream for this account" in str(error)


async def test_wrong_credentials(nats_variant: Variant) -> None:
    service = nats_variant('authorization { token: "hush" }')
    for user in ("", "wrong", "nobody:hush"):
        error = await refusal(url_of(service, user))
        assert isinstance(error, BrokerRefused), error
        assert "check user, password, token" in str(error)
    async with opened(url_of(service, "hush")) as backend:
        await backend.ping()
    async with opened(url_of(service, token="hush")) as backend:
        await backend.ping()


async def test_something_that_is_no_nats(unused_tcp_port_factory: Callable[[], int]) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        writer.close()

    port = unused_tcp_port_factory()
    server = await asyncio.start_server(greet, "127.0.0.1", port)
    async with server:
        error = await refusal(f"nats://127.0.0.1:{port}")
    assert isinstance(error, BrokerRefused)
    assert "does not answer as a NATS server does" in str(error)


async def test_nobody_there(unused_tcp_port_factory: Callable[[], int]) -> None:
    error = await refusal(f"nats://127.0.0.1:{unused_tcp_port_factory()}")
    assert isinstance(error, BrokerUnreachable)
    assert "Connection refused" in str(error)


async def test_the_first_server_that_takes_us_is_used(
    nats_variant: Variant, unused_tcp_port_factory: Callable[[], int]
) -> None:
    place = nats_variant().url.removeprefix("nats://")
    for _ in range(3):
        async with opened(f"nats://127.0.0.1:{unused_tcp_port_factory()},{place}") as backend:
            await backend.ping()


_USERS = """authorization {{ users: [
    {{ user: "admin", password: "hush" }},
    {{ user: "limited", password: "hush", permissions: {{ {0} }} }}
] }}"""


async def test_a_subject_that_is_denied_is_named(nats_variant: Variant) -> None:
    service = nats_variant(_USERS.format('publish: { deny: "tranship.t.secret.>" }'))
    async with opened(url_of(service, "limited:hush", command_timeout=5)) as backend:
        good, bad = message("open"), message("secret")
        answers = await asyncio.wait_for(backend.submitter().submit([bad, good]), 4)
    refused, receipt = answers
    assert isinstance(refused, BrokerRefused), "a definite refusal, at once, not an unknown outcome"
    assert "let this user publish to tranship.t.secret.1" in str(refused)
    assert receipt == Receipt(good.envelope.id)


async def test_an_inbox_that_is_denied(nats_variant: Variant) -> None:
    service = nats_variant(_USERS.format('subscribe: { allow: ["_INBOX_limited.>", "tranship.>", "$KV.>"] }'))
    error = await refusal(url_of(service, "limited:hush", command_timeout=3))
    assert isinstance(error, BrokerRefused)
    assert "set inbox_prefix" in str(error)
    async with opened(url_of(service, "limited:hush", inbox_prefix="_INBOX_limited")) as backend:
        one = message("q")
        assert await backend.submitter().submit([one]) == [Receipt(one.envelope.id)]
        assert ids_of(await _received(backend.consumer(["q"]))) == [one.envelope.id]


async def test_the_rights_of_the_readme_are_enough(nats_variant: Variant, caplog: pytest.LogCaptureFixture) -> None:
    rights = re.search(r"```\n(publish: .*?)```", README.read_text("utf-8"), re.DOTALL)
    assert rights is not None
    service = nats_variant(_USERS.format(rights[1]))
    url = url_of(service, "limited:hush", namespace="shop", command_timeout=5)

    @task(name="rights.double", queue="q")
    async def double(value: int) -> int:
        return 2 * value

    with caplog.at_level(logging.WARNING, "tranship"):
        async with AsyncClient(url) as client:
            worker = Worker(url, tasks=[double])
            serving = asyncio.create_task(worker.serve())
            handle = await client.submit(double.options(dedup_key="k"), 21)
            assert await handle.result(10) == 42
            later = await client.submit(double.options(delay=0.2), 4)
            assert await later.result(10) == 8
            doomed = await client.submit(double.options(delay=600), 4)
            await client.cancel(task_id=doomed.id)
            assert (await doomed.wait(10)).state is TaskState.CANCELLED
            await handle.forget()
            worker.stop()
            await serving
    async with opened(url) as backend:
        inspector = backend.inspector()
        assert [await inspector.queues(), await inspector.workers(), await inspector.dead()] == [[], [], []]
        assert await inspector.dead_purge() == 0
    assert not [record for record in caplog.records if "said permissions" in record.getMessage()]


async def test_the_servers_maximum_is_known_and_kept(nats_variant: Variant) -> None:
    service = nats_variant("max_payload: 64KB")
    async with variant_lab(service) as lab:
        backend = await lab.open()
        limit = backend.submitter().max_message_size
        assert limit == 64 * 1024 - 16 * 1024
        assert any("raise max_payload" in warning for warning in backend.warnings)
        big, small = lab.message(args=("x" * limit,)), lab.message()
        refused, receipt = await backend.submitter().submit([big, small])
        assert isinstance(refused, MessageTooLarge)
        assert (refused.limit, receipt) == (limit, Receipt(small.envelope.id))
        with pytest.raises(MessageTooLarge, match="a result of"):
            await backend.results().put([lab.result("a", "x" * 64 * 1024)])
        # What slips through all the same must not cost the connection.
        connection = connected(backend)
        (answer,) = await connection.ask_all([(b"tranship.t.q.1", b"", b"x" * 65 * 1024)])
        assert isinstance(answer, MessageTooLarge)
        await connection.settled()


async def test_a_full_stream_says_so_and_goes_on(nats_variant: Variant) -> None:
    service = nats_variant()
    async with variant_lab(service, max_bytes=40_000) as lab:
        backend = await lab.open()
        answers = await backend.submitter().submit(lab.messages(60, kwargs={"x": "y" * 500}))
        full = [answer for answer in answers if not isinstance(answer, Receipt)]
        assert full
        assert {type(answer) for answer in full} == {StorageFull}
        assert "raise its limits" in str(full[0])
        consumer = backend.consumer(["q"])
        await lab.drain(consumer, len(answers) - len(full))
        await lab.submit(backend, lab.message())


async def test_an_account_that_wants_limits(nats_variant: Variant) -> None:
    service = nats_variant(
        "accounts { A: { jetstream: { max_file: 10MB, max_mem: 1MB, max_streams: 4 },"
        ' users: [{ user: "a", password: "hush" }] } }'
    )
    async with opened(url_of(service, "a:hush", max_bytes=10_000_000_000)) as backend:
        (answer,) = await backend.submitter().submit([message("q")])
    assert isinstance(answer, StorageFull), answer
    assert "storage is used up" in str(answer)


async def test_streams_of_somebody_else(nats_variant: Variant) -> None:
    service = nats_variant()
    async with opened(url_of(service)) as backend:
        await backend.native.jetstream().add_stream(name="tranship-shop-work", subjects=["orders.>"])
    error = await refusal(url_of(service, namespace="shop"))
    assert isinstance(error, BrokerRefused)
    assert "choose another namespace" in str(error)


async def test_memory_is_not_durable(lab: CaseContext) -> None:
    backend = await lab.open(storage="memory")
    await lab.submit(backend, lab.message())
    other = await lab.open()
    for one in (backend, other):
        assert not one.capabilities.has(Capability.DURABLE)
        assert any("kept in memory only" in warning for warning in one.warnings)


async def test_warnings_of_what_is_different(lab: CaseContext) -> None:
    backend = await lab.open(result_ttl=60)
    await backend.results().put([lab.result("a", 1)])
    await lab.submit(backend, lab.message())
    other = await lab.open(result_ttl=120, duplicate_window=30)
    await other.results().put([lab.result("b", 1)])
    text = "\n".join(other.warnings)
    assert re.search(r"KV_\S+-results has max_age 60 s, the URL says 120 s", text)
    assert re.search(r"\S+-work has duplicate_window 120 s, the URL says 30 s", text)
    assert "sync_interval" in text


# What is deleted while it is used.


async def test_a_stream_that_is_deleted_is_made_again(lab: CaseContext, caplog: pytest.LogCaptureFixture) -> None:
    backend, producer = await lab.open(), await lab.open()
    consumer = backend.consumer(["q"])
    await lab.submit(producer, lab.message())
    await lab.drain(consumer, 1)
    waiting = lab.start(consumer.receive(1, 20.0))
    await lab.wait_for(waiting, 0.2)
    with caplog.at_level(logging.WARNING, "tranship.nats"):
        await _delete(backend, "work")
        ids = await _until_accepted(lab, producer)
        received = await asyncio.wait_for(waiting, 15)
    assert ids_of(received.deliveries) == ids
    assert "was deleted with everything in it; it is made again" in caplog.text


async def test_consumers_that_are_deleted_are_made_again(lab: CaseContext) -> None:
    backend = await lab.open()
    consumer = backend.consumer(["q"])
    await lab.quiet(consumer, 0.1)
    jetstream, names = backend.native.jetstream(), connected(backend).broker.names
    for level in range(4):
        await jetstream.delete_consumer(names.work, f"q-{level}")
    await jetstream.delete_consumer(names.delay, "forward")
    ids = await lab.submit(backend, lab.message())
    assert ids_of(await lab.receive(consumer)) == ids


@pytest.mark.parametrize("kind", ["results", "cancels", "dead"])
async def test_other_streams_that_are_deleted_are_made_again(lab: CaseContext, kind: str) -> None:
    backend = await lab.open()

    async def use() -> bool:
        try:
            await _use(lab, backend, kind)
        except BrokerUnreachable:
            return False
        return True

    assert await use()
    await _delete(backend, kind)
    await lab.eventually(use, f"{kind} is made again")


async def test_a_settlement_of_a_consumer_that_is_gone_is_lost(lab: CaseContext) -> None:
    backend = await lab.open()
    await lab.submit(backend, lab.message())
    consumer = backend.consumer(["q"])
    (held,) = await lab.receive(consumer)
    await _delete(backend, "work")
    from tranship.ports import Settled, Settlement

    assert await consumer.settle([Settlement(held, Verdict.ACK)]) == [Settled.LOST]
    assert await consumer.extend([held]) == [False]


async def _use(lab: CaseContext, backend: Backend, kind: str) -> None:
    import time

    from tranship.ports import Settlement, Tombstone

    if kind == "results":
        await backend.results().put([lab.result("a", 1)])
        await backend.results().get_many(["a"])
    elif kind == "cancels":
        await backend.control().cancel([Tombstone(kind="key", value="k", expires=time.time() + 60)])
    else:
        await lab.submit(backend, lab.message())
        consumer = backend.consumer(["q"])
        (held,) = await lab.receive(consumer)
        await consumer.settle([Settlement(held, Verdict.REJECT, reason="kit")])


async def _delete(backend: Backend, kind: str) -> None:
    await backend.native.jetstream().delete_stream(connected(backend).streams.name(kind))


async def _until_accepted(lab: CaseContext, backend: Backend) -> list[str]:
    async def accepted() -> list[str]:
        message = lab.message()
        (answer,) = await backend.submitter().submit([message])
        assert isinstance(answer, Receipt | BrokerUnreachable), repr(answer)
        return [message.envelope.id] if isinstance(answer, Receipt) else []

    return await lab.eventually(accepted, "a submit succeeds again")


async def _received(consumer: Consumer) -> list:
    return list((await consumer.receive(1, 8.0)).deliveries)
