"""Servers that refuse, are full, are somebody's replica, or are no Redis at all: told by type and in words."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from redis_kit import (
    Raw,
    lab_of,
    need_rights_of_subcommands,
    opened,
    refusal,
    said,
    settled,
    until_raised,
    until_works,
)

from tranship import AsyncClient, Worker, task
from tranship.errors import BrokerRefused, BrokerUnreachable, TranshipError, UnsupportedError
from tranship.ports import Settlement, Verdict
from tranship.testing.context import ids_of
from tranship.testing.services import Service, free_port
from tranship.testing.suites.ports.recovery import Ledger, receive_again, submit_again

pytestmark = pytest.mark.timeout(120)

SECRET = "sw0rdf1sh"
RIGHTS = ("on", f">{SECRET}", "~*", "&*", "+@all")


@task(name="bad.echo", queue="q")
def echo(value: object) -> object:
    return value


@contextlib.contextmanager
def user(raw: Raw, *rules: str) -> Iterator[str]:
    """A user of the server with these rules on top of all rights; gives the URL without namespace."""
    name = f"u{uuid.uuid4().hex[:8]}"
    raw("ACL", "SETUSER", name, *RIGHTS, *rules)
    try:
        yield f"redis://{name}:{SECRET}@{raw.address}/0?keepalive=1&command_timeout=3"
    finally:
        raw("ACL", "DELUSER", name)


# --- passwords ------------------------------------------------------------------------------------


async def test_a_wrong_password_is_refused_for_good(raw: Raw) -> None:
    with user(raw) as url:
        error = await refusal(url.replace(SECRET, "wr0ng"), BrokerRefused)
    assert not error.retryable
    assert "password is wrong" in str(error)
    assert raw.address in str(error)
    assert "wr0ng" not in said(error)


async def test_a_missing_password_is_refused_with_what_to_do(redis_variant: Callable[..., Service]) -> None:
    service = redis_variant(password=SECRET)
    address = Raw(service).address
    error = await refusal(f"redis://{address}/0", BrokerRefused)
    assert "wants a password" in str(error)
    async with opened(service.url) as backend:
        await backend.ping()
        assert SECRET not in backend.url + repr(backend) + str(backend)


async def test_a_disabled_user_is_refused(raw: Raw) -> None:
    with user(raw, "off") as url:
        error = await refusal(url, BrokerRefused)
    assert "disabled" in str(error)
    assert SECRET not in said(error)


async def test_a_password_that_is_changed_while_connected_is_told_to_who_submits(raw: Raw) -> None:
    """The server cuts the user off and does not let it in again: refused for good, not an outage."""
    with user(raw) as url:
        async with opened(url) as backend:
            await backend.ping()
            name = url.partition("://")[2].partition(":")[0]
            raw("ACL", "SETUSER", name, "resetpass", ">another")
            raw("CLIENT", "KILL", "USER", name)
            error = await until_raised(backend.ping, BrokerRefused)
            assert SECRET not in said(error)
            raw("ACL", "SETUSER", name, f">{SECRET}")
            await until_works(backend.ping)


# --- rights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["evalsha", "script|load", "lpush", "lrange", "ltrim", "hset", "zadd", "set", "publish", "get"]
)
async def test_a_missing_command_is_named_and_nothing_hangs(raw: Raw, command: str) -> None:
    """Opened or not: who needs the command is refused for good within seconds, with its name and the remedy."""
    need_rights_of_subcommands(raw, command)
    with user(raw, f"-{command}") as url:
        errors = await errors_of_everything(url)
    assert errors, f"everything works without {command}"
    for error in errors:
        assert isinstance(error, BrokerRefused), said(error)
        assert SECRET not in said(error)
    assert any("ACL" in str(error) for error in errors)
    assert any(command.partition("|")[0] in str(error).lower() for error in errors), [str(error) for error in errors]


@pytest.mark.parametrize("command", ["info", "config|get", "client|tracking", "client|setname", "llen"])
async def test_what_is_only_nice_to_have_may_be_missing(raw: Raw, command: str) -> None:
    need_rights_of_subcommands(raw, command)
    with user(raw, f"-{command}") as url:
        async with lab_of(url) as context:
            backend = await context.open()
            consumer = backend.consumer(["q"])
            waiting = context.start(consumer.receive(1, 10.0))
            await asyncio.sleep(0)
            ids = await context.submit(backend, context.message())
            received = await waiting
            assert ids_of(received.deliveries) == ids
            await context.settle(consumer, Verdict.ACK, *received.deliveries)


async def test_missing_keys_are_named(raw: Raw) -> None:
    with user(raw, "resetkeys", "~allowed:*") as url:
        async with lab_of(f"{url}&namespace=allowed") as context:
            # Inside of the pattern everything works.
            context.namespace = f"allowed:{context.namespace}"
            backend = await context.open()
            ids = await context.submit(backend, context.message())
            assert await context.drain(backend.consumer(["q"]), 1) == ids
        errors = await errors_of_everything(url)
    assert errors
    for error in errors:
        assert isinstance(error, BrokerRefused), said(error)
        assert SECRET not in said(error)
    assert any("keys (~...)" in str(error) for error in errors)


@pytest.mark.parametrize("rule", ["resetchannels", "-subscribe"])
async def test_missing_channels_are_told_and_results_still_come(
    raw: Raw, caplog: pytest.LogCaptureFixture, rule: str
) -> None:
    """New users of Redis 7 may use no channels: a worker is refused, a client reads its results and says so."""
    with user(raw, rule) as url:
        async with lab_of(url) as context:
            backend = await context.open()
            with pytest.raises(BrokerRefused) as caught:
                await asyncio.wait_for(backend.control().listen(lambda _signals: None, worker="w-1"), 20.0)
            full = f"redis://{raw.address}/0?namespace={context.namespace}"
            worker = Worker(full, tasks=[echo], result_url=full)
            serving = context.start(worker.serve())
            async with AsyncClient(context.url(), result_url=context.url()) as client:
                assert await (await client.submit(echo, "read")).result(10) == "read"
            worker.stop()
            await serving
    assert "channel" in str(caught.value)
    assert [record for record in caplog.records if record.levelname == "ERROR" and "polled" in record.message]
    assert SECRET not in said(caught.value) + caplog.text


async def errors_of_everything(url: str) -> list[TranshipError]:
    """Open, submit in every way, receive, settle in every way, store, cancel, look; return the errors."""
    errors: list[TranshipError] = []

    async def attempt(call) -> object:
        try:
            answer = await asyncio.wait_for(call, 20.0)
        except TranshipError as error:
            errors.append(error)
            return None
        if isinstance(answer, list):
            errors.extend(one for one in answer if isinstance(one, TranshipError))
        return answer

    async with lab_of(url) as context:
        backend = context.make()
        await attempt(backend.open())
        if errors:
            return errors
        messages = [
            context.message(),
            context.message(check_id=True),
            context.message(dedup_key="k", dedup_window=60),
            context.message(not_before=time.time() + 60),
        ]
        await attempt(backend.submitter().submit(messages))
        consumer = backend.consumer(["q"])
        received = await attempt(consumer.receive(1, 0.2))
        for delivery in received.deliveries if received else ():
            settlement = Settlement(delivery, Verdict.ACK, result=context.result(ids_of([delivery])[0], 1))
            await attempt(consumer.settle([settlement]))
        await attempt(backend.results().put([context.result("a-1", 1)]))
        await attempt(backend.results().get_many(["a-1"]))
    return errors


# --- not there, not Redis -------------------------------------------------------------------------


async def test_a_server_that_is_down_is_unreachable_with_its_address() -> None:
    port = free_port()
    error = await refusal(f"redis://u:{SECRET}@127.0.0.1:{port}/0", BrokerUnreachable)
    assert error.retryable
    assert f"127.0.0.1:{port}" in str(error)
    assert "refused" in str(error).lower()
    assert SECRET not in said(error)


async def test_a_name_that_is_not_known_is_unreachable() -> None:
    error = await refusal("redis://no-such-host.invalid:6379/0", BrokerUnreachable)
    assert "no-such-host.invalid" in str(error)


@contextlib.contextmanager
def listener(answer: bytes | None) -> Iterator[int]:
    """Something that listens and always says the same; None: it never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        links: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    links.append(link)
                    if answer is not None:
                        link.recv(4096)
                        link.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for link in links:
                link.close()


async def test_something_that_is_no_redis_is_told() -> None:
    with listener(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        error = await refusal(f"redis://u:{SECRET}@127.0.0.1:{port}/0", BrokerRefused)
    assert "does not answer as Redis does" in str(error)
    assert SECRET not in said(error)


async def test_something_that_says_nothing_is_given_up_in_time() -> None:
    with listener(None) as port:
        started = time.monotonic()
        error = await refusal(f"redis://127.0.0.1:{port}/0?connect_timeout=1", BrokerUnreachable)
    assert time.monotonic() - started < 4.5
    assert f"127.0.0.1:{port}" in str(error)


async def test_no_such_database_is_refused(raw: Raw) -> None:
    error = await refusal(f"redis://{raw.address}/999", BrokerRefused)
    assert "DB index is out of range" in str(error)


async def test_a_server_without_room_for_another_client_is_unreachable(redis_variant: Callable[..., Service]) -> None:
    service = redis_variant("--maxclients", "4")
    place = Raw(service).place
    with contextlib.ExitStack() as links:
        for _ in range(4):
            links.enter_context(socket.create_connection((place.host, place.port)))
        error = await refusal(f"{service.url}?connect_timeout=1", BrokerUnreachable)
    assert "max number of clients" in str(error)
    async with opened(service.url) as backend:
        await backend.ping()


@pytest.mark.parametrize("seconds", [1.0, 4.0], ids=["shorter", "longer"])
async def test_a_server_that_is_busy_for_a_while_answers_truthfully(
    redis_variant: Callable[..., Service], seconds: float
) -> None:
    """Stuck for less than command_timeout, and for more: what was under way is answered once it is back, and true."""
    service = redis_variant()
    async with lab_of(f"{service.url}?command_timeout=2&keepalive=1") as context:
        backend = await context.open()
        ledger = Ledger()
        await context.submit(backend, context.message(queue="before"))
        stuck = context.start(asyncio.to_thread(Raw(service), "DEBUG", "SLEEP", str(seconds)))
        await context.wait_for(stuck, 0.2)
        await asyncio.wait_for(ledger.submit(backend, *context.messages(20)), 20.0)
        await stuck
        await submit_again(context, backend)
        await ledger.take(context, (await context.open()).consumer(["q"]))
        assert not ledger.lies(), ledger.lies()[:3]
        if seconds < 2:
            assert ledger.receipts == 20


# --- the wrong kind of server ---------------------------------------------------------------------


async def test_a_read_only_replica_is_refused(redis_service: Service, redis_variant: Callable[..., Service]) -> None:
    master = Raw(redis_service).place
    replica = redis_variant("--replicaof", master.host, str(master.port))
    error = await refusal(replica.url, BrokerRefused)
    assert "read-only replica; use the address of its master" in str(error)


async def test_a_node_of_a_cluster_is_refused(redis_variant: Callable[..., Service]) -> None:
    node = redis_variant("--cluster-enabled", "yes")
    error = await refusal(node.url, UnsupportedError)
    assert "Redis Cluster" in str(error)


async def test_a_master_that_becomes_a_replica_is_an_outage(
    redis_service: Service, redis_variant: Callable[..., Service]
) -> None:
    """A failover: everything says unreachable while it lasts, and goes on when it is a master again."""
    service = redis_variant()
    raw, other = Raw(service), Raw(redis_service)
    async with lab_of(service.url) as context:
        backend = await context.open()
        consumer = backend.consumer(["q"])
        ids = await context.submit(backend, *context.messages(2))
        held = await context.receive(consumer)
        raw("REPLICAOF", other.place.host, str(other.place.port))
        (answer,) = await backend.submitter().submit([context.message()])
        assert isinstance(answer, BrokerUnreachable), said(answer)
        for call in (lambda: settled(consumer, [Settlement(held[0], Verdict.ACK)]), lambda: consumer.receive(1, 0.1)):
            await until_raised(call, BrokerUnreachable)
        raw("REPLICAOF", "NO", "ONE")
        await until_works(backend.ping)
        # The failover took its data, as a resynchronisation does: what matters is that work goes on.
        assert len(ids) == 2
        (fresh,) = await submit_again(context, backend)
        got: list[str] = []
        while fresh not in got:
            got += await receive_again(context, consumer)


# --- a worker on a bad server ---------------------------------------------------------------------


async def test_a_worker_that_may_not_take_ends_with_the_reason(raw: Raw) -> None:
    with user(raw, "-evalsha", "-eval") as url:
        worker = Worker(f"{url}&namespace={uuid.uuid4().hex}", tasks=[echo], result_url=url)
        with pytest.raises(BrokerRefused) as caught:
            await asyncio.wait_for(worker.serve(), 20.0)
    assert "eval" in str(caught.value).lower()
    assert SECRET not in said(caught.value)
