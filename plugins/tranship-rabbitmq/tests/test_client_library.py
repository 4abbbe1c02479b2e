"""The client library below: who is native, what it says, which versions; and our channels past its reader."""

from __future__ import annotations

import asyncio
import gc
import logging
import select
import ssl
import struct
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from rabbitmq_kit import WITHIN, Authority, control_beside, opened, raw, refusal, until, url_of, works

from tranship import AsyncClient, Worker, task
from tranship.errors import BrokerRefused, BrokerUnreachable, ConfigurationError, InvalidURLError
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship.testing.context import CaseContext
from tranship.testing.services import Service
from tranship_rabbitmq._frames import frames_of
from tranship_rabbitmq.amqp import versions
from tranship_rabbitmq.amqp.channel import Channel
from tranship_rabbitmq.amqp.connection import Connection, Place, dial
from tranship_rabbitmq.amqp.content import Properties
from tranship_rabbitmq.amqp.ends import ChannelEnded, Ended
from tranship_rabbitmq.amqp.methods import Method

pytestmark = pytest.mark.timeout(120)


@task(name="kit.echo", queue="q")
def echo(value: object = None) -> object:
    return value


@asynccontextmanager
async def dialled(service: Service, **fields: Any) -> AsyncIterator[Connection]:
    """A connection past the backend."""
    url = BrokerURL.parse(service.url)
    known: dict[str, Any] = {"vhost": "/", "username": "guest", "password": "guest", "heartbeat": 10, "name": "raw"}
    connection = await dial(Place(**{"host": url.host, "port": url.port or 5672, **known, **fields}))
    try:
        yield connection
    finally:
        await connection.aclose()


# --- poison: headers that RabbitMQ takes, and the client library cannot read ----------------------


def table(fields: bytes) -> bytes:
    return struct.pack(">I", len(fields)) + fields


def nested(depth: int) -> bytes:
    inner = b"I\0\0\0\1"
    for _ in range(depth):
        inner = b"A" + struct.pack(">I", len(inner)) + inner
    return inner


def poison(fields: bytes, correlation_id: bytes = b"AB") -> Callable[[Channel, str], bytes]:
    """Return what makes the frames of a message with these headers."""
    properties = Properties(content_type="application/json", table=table(fields), correlation_id="AB")

    def frames(channel: Channel, queue: str) -> bytes:
        made = frames_of(channel.number, channel.wire.frame_max, properties, b"[[1], {}, null]", routing_key=queue)
        assert made.count(b"\2AB") == 1
        return made.replace(b"\2AB", struct.pack(">B", len(correlation_id)) + correlation_id)

    return frames


POISON = {
    "a name that is not UTF-8": poison(b"\2\xff\xfeI\0\0\0\1"),
    "a text that is not UTF-8": poison(b"\1aS\0\0\0\2\xff\xfe"),
    "a time far away": poison(b"\1aT" + b"\x7f" * 8),
    "300 lists in each other": poison(b"\1a" + nested(300)),
    "2,000 lists in each other": poison(b"\1a" + nested(2000)),
    "an unsigned byte": poison(b"\1aB\xff"),
    "an unsigned long": poison(b"\1aL" + b"\xff" * 8),
    "a negative decimal": poison(b"\1aD\1" + struct.pack(">i", -15)),
    "bytes": poison(b"\1ax\0\0\0\2\xff\xfe"),
    "an id that is not UTF-8": poison(b"\1aI\0\0\0\1", b"\xff\xfe"),
}


async def published(channel: Channel, frames: bytes) -> None:
    answer: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
    channel.publish(frames, "", answer.set_result)
    assert await answer is None, "the server did not take it: no case for this test"


@pytest.mark.parametrize("case", POISON)
async def test_poison_headers_are_a_dead_letter_and_the_connection_lives(
    lab: CaseContext, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tranship.rabbitmq")
    backend = await lab.open()
    await backend.ensure(["q"])
    async with raw(lab) as channel:
        await channel.call("confirm.select", False)
        await published(channel, POISON[case](channel, f"{lab.namespace}:q"))
    url = lab.url()
    async with AsyncClient(url) as client:
        good = await client.submit(echo, "good")
        worker = Worker(url, tasks=[echo])
        serving = lab.start(worker.serve())
        assert await good.result(lab.patience) == "good"
        letters = await lab.eventually(backend.inspector().dead, "the bad one is a dead letter")
        worker.stop()
        await serving
    assert [(letter.reason, letter.body) for letter in letters] == [("malformed", b"[[1], {}, null]")]
    assert not [record for record in caplog.records if "connection" in record.getMessage()]


async def test_a_reason_that_is_cut_within_a_letter_costs_its_channel_only(rabbitmq_service: Service) -> None:
    """RabbitMQ cuts it after so many bytes, and the client library would end the connection over the rest."""
    async with dialled(rabbitmq_service) as connection:
        for letters in range(100, 116):
            channel = await connection.wire.channel()
            with pytest.raises(ChannelEnded) as caught:
                await channel.call("queue.declare", 0, "x" * (letters % 2) + "ä" * letters, *_PASSIVE)
            assert caught.value.code == 404
        assert (await connection.wire.channel()).ended is None


_PASSIVE = (True, False, False, False, False, {})


async def test_nothing_is_said_on_a_channel_that_is_being_closed(rabbitmq_service: Service) -> None:
    """What is pushed meanwhile is acknowledged by who reads a stream; the server would end the connection over it."""
    async with dialled(rabbitmq_service) as connection:
        channel = await connection.wire.channel()
        closing = asyncio.create_task(channel.close())
        await asyncio.sleep(0)
        connection.wire.flush()
        # The server has closed it, and the loop has not heard of it yet.
        assert select.select([connection.wire._transport.get_extra_info("socket")], [], [], WITHIN)[0]
        channel.send("basic.ack", 1, False)
        answer: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        frames = frames_of(channel.number, connection.wire.frame_max, Properties(), b"x", routing_key="nobody")
        channel.publish(frames, "", answer.set_result)
        assert isinstance(await answer, ChannelEnded)
        with pytest.raises(ChannelEnded):
            await channel.call("basic.get", 0, "nobody", True)
        await closing
        await connection.wire.channel()
        assert connection.wire.ended is None


# --- heartbeats ------------------------------------------------------------------------------------


@pytest.mark.campaign
async def test_traffic_on_our_channels_alone_keeps_the_connection(rabbitmq_service: Service) -> None:
    """For three times as long as the client library waits for a word, of which it hears none."""
    heartbeat = 1
    async with dialled(rabbitmq_service, heartbeat=heartbeat) as connection:
        wire = connection.wire
        assert wire.heartbeat == heartbeat
        channel = await wire.channel()
        await channel.call("queue.declare", 0, "beats", False, False, True, True, False, {})
        loop = asyncio.get_running_loop()
        end = loop.time() + 3 * (3 * (heartbeat + 1))
        while loop.time() < end:
            # Oftener than the server would beat: it does not.
            assert isinstance(await channel.call("basic.get", 0, "beats", True), Method)
            await asyncio.sleep(0.05)
        assert wire.ended is None


async def test_an_idle_connection_lives_on_heartbeats(rabbitmq_service: Service) -> None:
    async with dialled(rabbitmq_service, heartbeat=1) as connection:
        await asyncio.wait({connection.wire.done}, timeout=6)
        assert connection.wire.ended is None
        await connection.wire.channel()


async def test_what_the_server_asks_for_is_heard(rabbitmq_variant: Callable[..., Service]) -> None:
    """Its own heartbeat, where that is shorter, and its bounds: the client library would take its own heartbeat."""
    service = rabbitmq_variant("heartbeat = 3", "channel_max = 16", "frame_max = 0")
    async with dialled(service) as connection:
        wire = connection.wire
        assert (wire.heartbeat, wire.channel_max, wire.native_max, wire.frame_max) == (3, 16, 2, 131_072)
        told = await control_beside(service)("list_connections", "timeout", "channel_max", "--no-table-headers")
        assert told.split() == ["3", "16"]
    async with dialled(service, heartbeat=2) as connection:
        assert connection.wire.heartbeat == 2
    async with opened(service.url) as backend:
        assert await works(backend)


# --- who is native ---------------------------------------------------------------------------------


async def test_native_is_an_aio_pika_connection_beside_our_channels(lab: CaseContext) -> None:
    backend = await lab.open()
    native = backend.native
    assert isinstance(native, aio_pika.Connection)
    assert backend.native is native
    queue_name = f"{lab.namespace}:by-hand"
    async with native.channel() as channel:
        queue = await channel.declare_queue(queue_name, durable=True)
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), queue_name)
        ids = await lab.submit(backend, *lab.messages(100))
        found = await queue.get(timeout=lab.patience)
        assert found.body == b"hello"
        await found.ack()
        assert await lab.drain(backend.consumer(["q"]), 100) == ids
        await queue.delete()
    del native, channel, queue, found
    gc.collect()
    await lab.submit(backend, lab.message())
    assert backend.native.connected.is_set()


async def test_channels_of_others_have_numbers_of_their_own(rabbitmq_variant: Callable[..., Service]) -> None:
    service = rabbitmq_variant("channel_max = 16")
    async with dialled(service) as connection:
        ours = [await connection.wire.channel() for _ in range(14)]
        theirs = [await connection.native.channel() for _ in range(2)]
        assert {channel.number for channel in ours} == set(range(3, 17))
        with pytest.raises(Ended, match="all 14 channels"):
            await connection.wire.channel()
        with pytest.raises(ValueError, match="free for others are 1 to 2"):
            await connection.native.channel()
        await theirs[0].close()
        await (await connection.native.channel()).close()
        assert connection.wire.ended is None


async def test_who_closes_native_gets_a_new_one(lab: CaseContext) -> None:
    backend = await lab.open()
    native = backend.native
    await native.close()
    await until(lambda: works(backend), BrokerUnreachable)
    assert backend.native is not native
    await backend.native.channel()


async def test_a_connection_that_is_closed_tells_who_waits_for_native(rabbitmq_service: Service) -> None:
    async with dialled(rabbitmq_service) as connection:
        native, told = connection.native, asyncio.Event()
        native.close_callbacks.add(lambda *_: told.set())
    async with asyncio.timeout(WITHIN):
        await native.closed()
        await told.wait()


# --- what it says in the log -----------------------------------------------------------------------


async def test_the_librarys_log_is_quiet_about_what_is_ours_to_tell(
    rabbitmq_service: Service, lab: CaseContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused login, a server that goes, a channel that fails; but who uses it himself hears it as ever."""
    assert isinstance(await refusal(url_of(rabbitmq_service, "guest:wrong")), BrokerRefused)
    assert isinstance(await refusal("amqp://127.0.0.1:1/"), BrokerUnreachable)
    backend = await lab.open()
    await control_beside(rabbitmq_service)("close_all_connections", "the server says so")
    await until(lambda: works(backend), BrokerUnreachable)
    assert not [record for record in caplog.records if record.name.startswith(("aiormq", "aio_pika"))]
    with pytest.raises(aio_pika.exceptions.AMQPConnectionError):
        await aio_pika.connect("amqp://127.0.0.1:1/")
    assert [record.name for record in caplog.records if record.name.startswith("aiormq")] == ["aiormq.connection"]


# --- how programs end -------------------------------------------------------------------------------


_PROGRAM = """
import asyncio, gc, sys
from tranship.registry import Registry

async def main(url, closed, native):
    backend = Registry().create(url)
    await backend.open()
    consumer = backend.consumer(["q"])
    await consumer.receive(1, 0.05)
    if native:
        channel = await backend.native.channel()
    if closed:
        await backend.aclose()

asyncio.run(main(sys.argv[1], "closed" in sys.argv, "native" in sys.argv))
gc.collect()
"""


@pytest.mark.parametrize("how", ["closed", "left open", "closed native", "left open native"])
async def test_a_program_ends_without_a_word(lab: CaseContext, how: str) -> None:
    """Also one that ends its loop over an open backend: no task of the library's is left behind, nor complains."""
    for _ in range(5):
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", _PROGRAM, lab.url(), *how.split()),
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await program.communicate()
        assert (program.returncode, told.decode()) == (0, "")


# --- servers that are no good ----------------------------------------------------------------------


async def test_a_server_that_only_speaks_tls_is_given_up_in_time(tmp_path: Path) -> None:
    """The client library would wait half a minute for it to take its leave."""
    authority = Authority(tmp_path, "ours")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server"))
    release = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await release.wait()
        writer.transport.abort()

    server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    started = loop.time()
    options = f"connect_timeout=1&ca_certs={authority.certificate}"
    error = await refusal(f"amqps://127.0.0.1:{port}/?{options}")
    assert isinstance(error, BrokerUnreachable)
    assert "no answer for 1 s" in str(error)
    assert loop.time() - started < 4
    release.set()
    server.close()
    await server.wait_closed()


async def test_the_next_address_is_tried_beside_one_that_does_not_answer(
    rabbitmq_service: Service, lab: CaseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with two addresses, at the first of which packets get lost."""
    import socket

    proxy = lab.proxy()
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind(("127.0.0.2", proxy.port))
        deaf.listen(0)
        # Its queue is full: whoever comes next gets no answer.
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", proxy.port))
        loop = asyncio.get_running_loop()

        async def addresses(host: str, port: int, **_: Any) -> list[Any]:
            assert host == "two.example"
            kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*kind, (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr(loop, "getaddrinfo", addresses)
        started = loop.time()
        async with opened(f"amqp://guest:guest@two.example:{proxy.port}/?connect_timeout=20") as backend:
            assert loop.time() - started < 10
            assert await works(backend)


def _cancel(task: asyncio.Task[Any], _done: object) -> None:
    task.cancel()


async def test_an_attempt_given_up_in_the_moment_in_which_it_fails_leaves_no_error_behind() -> None:
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, trouble: troubles.append(trouble))
    enough = asyncio.Event()

    async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await enough.wait()
        writer.close()

    async def logging_in() -> list[asyncio.Task[Any]]:
        return [one for one in asyncio.all_tasks() if getattr(one.get_coro(), "__name__", "") == "connect"]

    async with await asyncio.start_server(leave, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        dialling = asyncio.create_task(dial(Place("127.0.0.1", port, "/", "guest", "guest", 10, "raw")))
        for one in await until(logging_in):
            one.add_done_callback(partial(_cancel, dialling))
        enough.set()
        await asyncio.wait({dialling})
    assert dialling.cancelled()
    # Its error holds everything below it.
    del one, dialling
    gc.collect()
    assert not troubles


# --- as whom ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["amqp://guest:@127.0.0.1:1/", "amqps://:@127.0.0.1:1/"])
def test_an_empty_password_is_refused_before_anybody_is_asked(url: str) -> None:
    """The client library would log in as guest."""
    with pytest.raises(InvalidURLError, match="empty password"):
        Registry().create(url)


async def test_odd_names_and_passwords_arrive_as_they_are(rabbitmq_service: Service) -> None:
    control = control_beside(rabbitmq_service)
    name, password, vhost = "ü:@/?", "p@ss:/ü%2F #", "a/b %2F?#.."
    await control("add_vhost", vhost)
    await control("add_user", name, password)
    try:
        await control("set_permissions", "-p", vhost, name, ".*", ".*", ".*")
        async with dialled(rabbitmq_service, username=name, password=password, vhost=vhost) as connection:
            await connection.wire.channel()
        with pytest.raises(Ended, match="refused"):
            async with dialled(rabbitmq_service, username=name, password=password + "x", vhost=vhost):
                pass
    finally:
        await control("delete_user", name)
        await control("delete_vhost", vhost)


# --- which versions ---------------------------------------------------------------------------------


def test_the_installed_library_is_one_that_has_been_tried() -> None:
    """With what the other tests of this file need of it: they run on the one that is installed."""
    versions.check()
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for name, (oldest, below) in versions.TRIED.items():
        dotted = [".".join(map(str, one)) for one in (oldest, below)]
        assert f"{name}>={dotted[0]},<{dotted[1]}" in project["dependencies"]


@pytest.mark.parametrize("version", ["7.2.3", "7.3.0", "8.0.0rc1", "6", ""])
def test_another_version_is_refused_with_what_to_install(version: str) -> None:
    found = {"aio-pika": "10.2.1", "aiormq": version}
    with pytest.raises(ConfigurationError, match=rf"aiormq {version} is installed.*'aiormq>=7\.2\.4,<7\.3'"):
        versions.check(found.__getitem__)


def test_a_library_that_is_not_installed_is_named() -> None:
    def installed(name: str) -> str:
        raise PackageNotFoundError(name)

    with pytest.raises(ConfigurationError, match=r"aio-pika, which is not installed: install 'aio-pika>="):
        versions.check(installed)


@pytest.mark.parametrize("version", ["7.2.4", "7.2.99", "7.2.5.post1"])
def test_patches_are_not_refused(version: str) -> None:
    versions.check({"aio-pika": "10.2.1", "aiormq": version}.__getitem__)
