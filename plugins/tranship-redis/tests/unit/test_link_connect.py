"""Ways to the server and its refusals: users and rights, TLS, Unix sockets, RESP2; and nowhere a password."""

import asyncio
import logging
import re
import ssl
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from link_kit import Answers, linked, server, until, until_why, wire_of
from redis.exceptions import ResponseError
from redis_context import make_driver

from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    InvalidOptionError,
    InvalidURLError,
    TranshipError,
    UnsupportedError,
)
from tranship.testing.services import ProcessService, ask_redis
from tranship_redis._errors import NotReady
from tranship_redis._pack import pack
from tranship_redis._server import ServerInfo

SECRET = "s3same!"


@pytest.fixture(scope="module")
def redis() -> Iterator[ProcessService]:
    with server("--appendonly", "no", password=SECRET) as service:
        yield service


def user_url(redis: ProcessService, name: str, *rules: str) -> str:
    """The URL of a user with these rights."""
    rights = ("on", f">{SECRET}", "~*", "&*", "+@all", *rules)
    ask_redis(redis.place, "ACL", "SETUSER", name, "reset", *rights, password=SECRET)
    return f"redis://{name}:{SECRET.replace('!', '%21')}@127.0.0.1:{redis.place.port}/0"


async def refused(url: str, kind: type[TranshipError], **options: Any) -> TranshipError:
    """Insist that opening raises, that nothing is left, and that no password can be read anywhere."""
    driver, before = make_driver(url, **options), asyncio.all_tasks()
    with pytest.raises(kind) as caught:
        await driver.backend.open()
    assert type(caught.value) is kind
    assert asyncio.all_tasks() <= before
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(driver.backend)
    causes: BaseException | None = caught.value
    while causes is not None:
        shown += str(causes)
        causes = causes.__cause__ or causes.__context__
    assert SECRET not in shown
    return caught.value


@pytest.mark.parametrize("protocol", [2, 3])
async def test_passwords(redis: ProcessService, protocol: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with linked(redis.url, protocol=protocol, client_name="ours") as link:
        assert await link.call("CLIENT", "GETNAME") == b"ours"
        assert link.server.is_resp3 == (protocol == 3)
    address = f"127.0.0.1:{redis.place.port}"
    missing = await refused(f"redis://{address}/0", BrokerRefused, protocol=protocol)
    assert "wants a password" in str(missing)
    wrong = await refused(f"redis://:x{SECRET}@{address}/0", BrokerRefused, protocol=protocol)
    assert "password is wrong" in str(wrong)
    assert address in str(wrong)
    assert SECRET not in caplog.text


async def test_the_database(redis: ProcessService) -> None:
    async with linked(redis.url.removesuffix("/0") + "/7") as link:
        assert b"db=7" in await link.call("CLIENT", "INFO")
    error = await refused(redis.url.removesuffix("/0") + "/700", BrokerRefused)
    assert "DB index is out of range" in str(error)


async def test_without_the_right_to_look_at_the_server(redis: ProcessService) -> None:
    async with linked(user_url(redis, "noinfo", "-info")) as link:
        assert link.server == ServerInfo(is_resp3=True, read_only=False)
        assert await link.call("ECHO", "x") == b"x"


async def test_without_the_right_to_load_scripts(redis: ProcessService) -> None:
    error = await refused(user_url(redis, "noscript", "-script"), BrokerRefused)
    # From 7.0 on the server names the subcommand.
    assert re.search(r"'script(\|load)?'", str(error))
    assert "ACL SETUSER" in str(error)


async def test_without_channels_a_subscription_is_refused_and_the_order_is_kept(redis: ProcessService) -> None:
    answers = Answers()
    async with linked(user_url(redis, "deaf", "resetchannels", "&allowed")) as link:
        link.post(pack("SUBSCRIBE", "allowed", "forbidden"), answers, pushes=2)
        link.post(pack("ECHO", "a"), answers)
        link.post(pack("SUBSCRIBE", "allowed"), answers, pushes=1)
        link.post(pack("PSUBSCRIBE", "any*"), answers, pushes=1)
        link.post(pack("ECHO", "b"), answers)
        first, second, third, fourth, fifth = await answers.count(5)
        assert isinstance(first, ResponseError)
        assert str(first).startswith("NOPERM")
        assert (second, third, fifth) == (b"a", None, b"b")
        assert isinstance(fourth, ResponseError)


async def test_a_user_that_is_deleted_while_connected(redis: ProcessService) -> None:
    async with linked(user_url(redis, "shortlived")) as link:
        ask_redis(redis.place, "ACL", "DELUSER", "shortlived", password=SECRET)
        await until_why(link, "password", BrokerRefused)
        user_url(redis, "shortlived")
        await until(lambda: link.up)


async def test_no_more_connections(redis: ProcessService) -> None:
    try:
        async with linked(redis.url) as link:
            # Over this very connection: the server may still count one that has just been closed.
            await link.call("CONFIG", "SET", "maxclients", "1")
            error = await refused(redis.url, BrokerUnreachable)
    finally:
        await until(lambda: _max_clients_restored(redis))
    assert "max number of clients" in str(error)


def _max_clients_restored(redis: ProcessService) -> bool:
    try:
        return ask_redis(redis.place, "CONFIG", "SET", "maxclients", "1000", password=SECRET) == b"OK"
    except Exception:
        return False


# RESP2


async def test_resp2_for_everything_but_subscriptions(redis: ProcessService) -> None:
    async with linked(redis.url, protocol=2) as link:
        await link.call("HSET", "h2", "f", "v")
        assert await link.call("HGETALL", "h2") == [b"f", b"v"]
        assert not link.server.is_resp3


@pytest.mark.parametrize("keepalive", [5.0, 0.1])
async def test_resp2_subscriptions_on_a_connection_of_their_own(redis: ProcessService, keepalive: float) -> None:
    heard: list[Any] = []
    answers = Answers()
    async with (
        linked(redis.url, protocol=2) as main,
        linked(redis.url, pubsub=True, protocol=2, keepalive=keepalive) as link,
    ):
        link.on_push(b"message", heard.append)
        link.on_push(b"pmessage", heard.append)
        link.post(pack("SUBSCRIBE", "a", "b"), answers, pushes=2)
        link.post(pack("PSUBSCRIBE", "p*"), answers, pushes=1)
        link.post(pack("PING"), answers)
        assert await answers.count(3) == [None, None, [b"pong", b""]]
        await main.call("PUBLISH", "b", "1")
        await main.call("PUBLISH", "p1", "2")
        await until(lambda: len(heard) == 2)
        before = wire_of(link)._received
        if keepalive < 1:
            await until(lambda: wire_of(link)._received > before)
        link.post(pack("GET", "x"), answers)
        link.post(pack("UNSUBSCRIBE", "a"), answers, pushes=1)
        assert isinstance((await answers.count(5))[3], ResponseError)
        assert answers.got[4] is None
        assert link.generation == 1
    assert heard == [[b"message", b"b", b"1"], [b"pmessage", b"p*", b"p1", b"2"]]


async def test_a_server_that_knows_no_hello_is_spoken_to_in_resp2(caplog: pytest.LogCaptureFixture) -> None:
    with server("--appendonly", "no", "--rename-command", "HELLO", "") as old:
        async with linked(old.url) as link:
            assert not link.server.is_resp3
            assert await link.call("ECHO", "x") == b"x"
            wire_of(link).abort("for a test")
            await until(lambda: link.up)
    assert "does not speak RESP3" in caplog.text


async def test_such_a_server_with_a_password_does_not_get_it_printed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with server("--rename-command", "HELLO", "", "--rename-command", "AUTH", "") as old:
        await refused(f"redis://:{SECRET}@127.0.0.1:{old.place.port}/0", BrokerRefused)
    assert SECRET not in caplog.text


# The wrong kind of server


@pytest.mark.parametrize(
    ("info", "kind", "text"),
    [
        (b"redis_version:6.0.16\r\n", UnsupportedError, "6.2"),
        (b"redis_version:5.0.7\r\n", UnsupportedError, "6.2"),
        (b"redis_version:7.0.0\r\nredis_mode:cluster\r\n", UnsupportedError, "Cluster"),
        (b"redis_version:7.2.4\r\nserver_mode:cluster\r\n", UnsupportedError, "Cluster"),
        (b"redis_version:7.0.0\r\n# Cluster\r\ncluster_enabled:1\r\n", UnsupportedError, "Cluster"),
        (b"redis_version:7.2.4\r\nserver_mode:sentinel\r\n", BrokerRefused, "Sentinel"),
        (b"redis_mode:sentinel\r\n", BrokerRefused, "Sentinel"),
        (b"role:slave\r\nslave_read_only:1\r\n", BrokerRefused, "replica"),
        (b"redis_version:7.0.0\r\nloading:1\r\n", NotReady, "loading"),
    ],
)
def test_servers_that_cannot_serve_us(info: bytes, kind: type[TranshipError], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        ServerInfo.read(info, is_resp3=True).check("here:1", was_master=False)
    assert type(caught.value) is kind
    assert "here:1" in str(caught.value)


@pytest.mark.parametrize(
    "info",
    [
        b"redis_version:6.2.0\r\nrole:master\r\n",
        b"redis_version:8.2\r\n",
        b"redis_version:255.255.255\r\nredis_mode:standalone\r\n",
        b"redis_version:10.0.1\r\n",
        b"role:slave\r\nslave_read_only:0\r\n",
        b"",
        None,
        ResponseError("NOPERM this user has no permissions to run the 'info' command"),
    ],
)
def test_servers_that_can(info: Any) -> None:
    ServerInfo.read(info, is_resp3=True).check("here:1", was_master=False)


def test_a_master_that_became_a_replica_may_be_one_again() -> None:
    with pytest.raises(BrokerUnreachable, match="replica"):
        ServerInfo.read(b"role:slave\r\nslave_read_only:1\r\n", is_resp3=True).check("here:1", was_master=True)


async def test_a_server_that_is_not_ready_is_waited_for() -> None:
    with server() as redis:
        ask_redis(redis.place, "CONFIG", "SET", "lua-time-limit", "1")
        busy = asyncio.create_task(
            asyncio.to_thread(ask_redis, redis.place, "EVAL", "while true do end", "0"), name="busy"
        )
        driver = make_driver(redis.url, connect_timeout=10)
        await until(lambda: _is_busy(redis))
        opening = asyncio.create_task(driver.backend.open())
        done, _ = await asyncio.wait({opening}, timeout=0.3)
        assert not done
        ask_redis(redis.place, "SCRIPT", "KILL")
        await opening
        await driver.backend.ping()
        await driver.backend.aclose()
        await asyncio.wait({busy})
        assert busy.exception() is not None


async def test_a_server_that_does_not_get_ready_in_time() -> None:
    with server() as redis:
        ask_redis(redis.place, "CONFIG", "SET", "lua-time-limit", "1")
        busy = asyncio.create_task(asyncio.to_thread(ask_redis, redis.place, "EVAL", "while true do end", "0"))
        await until(lambda: _is_busy(redis))
        with pytest.raises(BrokerUnreachable, match=r"busy.*gave up after 0\.3 s"):
            await make_driver(redis.url, connect_timeout=0.3).backend.open()
        ask_redis(redis.place, "SCRIPT", "KILL")
        await asyncio.wait({busy})
        assert busy.exception() is not None


def _is_busy(redis: ProcessService) -> bool:
    try:
        ask_redis(redis.place, "PING")
    except Exception as error:
        return str(error).startswith("BUSY")
    return False


# Unix sockets and TLS


async def test_a_unix_socket() -> None:
    with server("--unixsocket", "{directory}/redis.sock", password=SECRET) as redis:
        path = redis.place.directory / "redis.sock"
        async with linked(f"unix://:{SECRET}@{path}?db=3") as link:
            assert b"db=3" in await link.call("CLIENT", "INFO")
            assert link.place == str(path)
            wire_of(link).abort("for a test")
            await until(lambda: link.up)
        error = await refused(f"unix://:x{SECRET}@{path}", BrokerRefused)
        assert str(path) in str(error)


async def test_no_unix_socket(tmp_path: Path) -> None:
    error = await refused(f"unix://{tmp_path}/none.sock", BrokerUnreachable)
    assert f"{tmp_path}/none.sock" in str(error)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key beside it."""
    path = tmp_path_factory.mktemp("tls") / "server.crt"
    key = path.with_suffix(".key")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    names = ("-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(path))
    subprocess.run(["openssl", "req", *kind, *names], check=True, capture_output=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def secure(certificate: Path) -> Iterator[ProcessService]:
    context = ssl.create_default_context(cafile=str(certificate))
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(certificate.with_suffix(".key")))
    with server(*files, "--tls-auth-clients", "no", "--appendonly", "no", tls=context, password=SECRET) as service:
        yield service


async def test_tls(secure: ProcessService, certificate: Path) -> None:
    value = b"x" * 3_000_000
    async with linked(secure.url, ca_certs=certificate) as link:
        assert await link.call("SET", "k", value) == b"OK"
        assert await link.call("GET", "k") == value
        answers = Answers()
        link.post(pack("SUBSCRIBE", "c"), answers, pushes=1)
        assert await answers.count(1) == [None]
        wire_of(link).abort("for a test")
        await until(lambda: link.up)
        assert await link.call("ECHO", "x") == b"x"
        secure.pause()
        caller = asyncio.create_task(link.call("PING"))
        await asyncio.sleep(0)
    secure.resume()
    with pytest.raises(TranshipError):
        await caller


async def test_tls_that_cannot_be_trusted(secure: ProcessService) -> None:
    error = await refused(secure.url, BrokerRefused)
    assert "certificate verify failed" in str(error)
    async with linked(secure.url, cert_reqs="none", check_hostname="false") as link:
        assert await link.call("ECHO", "x") == b"x"


async def test_tls_and_plain_text_do_not_mix(secure: ProcessService, redis: ProcessService) -> None:
    plain = await _error(secure.url.replace("rediss", "redis", 1))
    assert "rediss://" in str(plain)
    tls = await _error(redis.url.replace("redis", "rediss", 1))
    assert "TLS" in str(tls)


async def _error(url: str) -> TranshipError:
    with pytest.raises((BrokerRefused, BrokerUnreachable)) as caught:
        await make_driver(url).backend.open()
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", ["ca_certs", "certfile", "keyfile"])
def test_files_that_do_not_exist(name: str) -> None:
    with pytest.raises(InvalidOptionError, match=name) as caught:
        make_driver("rediss://h", **{name: "/no/such/file"})
    assert caught.value.option == name


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    key = tmp_path / "locked.key"
    make = ("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256")
    subprocess.run([*make, "-pass", "pass:x", "-out", str(key)], check=True, capture_output=True, timeout=60)
    with pytest.raises(InvalidOptionError, match="password of its own"):
        make_driver("rediss://h", certfile=key, keyfile=key)


@pytest.mark.parametrize("url", ["redis://a,b/0", "unix://relative/path", "unix://", "redis://h/zero"])
def test_urls_that_name_no_place(url: str) -> None:
    with pytest.raises(InvalidURLError):
        make_driver(url)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://", "localhost:6379"),
        ("valkey://h:1/2", "h:1"),
        ("redis://[::1]:7/0", "[::1]:7"),
        ("unix:///run/r.sock", "/run/r.sock"),
    ],
)
def test_places(url: str, place: str) -> None:
    assert make_driver(url).context.main.place == place
