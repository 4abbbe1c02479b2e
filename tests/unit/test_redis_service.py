"""Redis as the kit starts it: durable, asked over a plain socket, and in variants."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tranship.testing.case import CaseSkipped
from tranship.testing.context import CaseContext
from tranship.testing.service_harness import ServiceHarness
from tranship.testing.services import (
    ExternalService,
    Launch,
    Place,
    ProcessService,
    RedisRefused,
    Service,
    ask_redis,
    redis_recipe,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="local test servers need POSIX signals")


@pytest.fixture
def server(tranship_service: Callable[[str], Service]) -> ProcessService:
    service = tranship_service("redis")
    if not isinstance(service, ProcessService):
        pytest.skip("the server is not a process of ours")
    return service


def launched(*arguments: str, version: str = "7.0.15", tmp_path: Path, **options) -> list[str]:
    binary = tmp_path / "redis-server"
    binary.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    binary.chmod(0o755)
    launch: Launch = redis_recipe(*arguments, **options).launch(str(binary), Place(port=7001, directory=tmp_path))
    return list(launch.command)


def test_what_was_answered_survives_a_kill(server: ProcessService) -> None:
    assert ask_redis(server.place, "SET", "kit:kept", b"\x00\r\n\xff") == b"OK"
    server.kill()
    server.start()
    assert ask_redis(server.place, "GET", "kit:kept") == b"\x00\r\n\xff"
    assert ask_redis(server.place, "DEL", "kit:kept") == 1
    assert ask_redis(server.place, "GET", "kit:kept") is None
    assert ask_redis(server.place, "CONFIG", "GET", "save") == [b"save", b""]


def test_errors_are_raised_with_the_servers_text(server: ProcessService) -> None:
    with pytest.raises(RedisRefused, match="ERR unknown command 'NOSUCH'"):
        ask_redis(server.place, "NOSUCH")


def test_clients_are_counted_with_the_one_that_asks(server: ProcessService) -> None:
    before = server.client_count()
    with socket.create_connection((server.place.host, server.place.port)) as link:
        link.sendall(b"PING\r\n")
        link.recv(64)
        assert server.client_count() == before + 1


def test_debugging_is_allowed_from_here(server: ProcessService) -> None:
    assert ask_redis(server.place, "DEBUG", "SLEEP", "0") == b"OK"


def test_a_variant_with_a_password_is_ready_and_counts(server: ProcessService) -> None:
    with ProcessService(redis_recipe(password="hush"), server._binary) as guarded:
        assert guarded.url == f"redis://:hush@127.0.0.1:{guarded.place.port}/0"
        assert guarded.client_count() == 1
        with pytest.raises(RedisRefused, match="NOAUTH"):
            ask_redis(guarded.place, "PING")


def test_arguments_are_told_where_the_server_lives(tmp_path: Path) -> None:
    command = launched("--unixsocket", "{directory}/r-{port}.sock", tmp_path=tmp_path)
    assert command[-2:] == ["--unixsocket", f"{tmp_path}/r-7001.sock"]
    assert command[1:5] == ["--bind", "127.0.0.1", "--port", "7001"]


def test_a_server_without_tls_is_not_asked_to_speak_it(tmp_path: Path) -> None:
    able, plain, script = tmp_path / "able", tmp_path / "plain", tmp_path / "script"
    able.write_bytes(b"\x7fELF...Failed to load certificate: %s: %s\0...")
    plain.write_bytes(b"\x7fELF...tls-port\0...")
    script.write_text("#!/bin/sh\nexec something\n")
    recipe = redis_recipe(tls=ssl.create_default_context())
    assert [recipe.unfit(str(path)) for path in (able, plain, script)] == ["", "was built without TLS", ""]
    assert redis_recipe().unfit(str(plain)) == ""


@pytest.mark.parametrize(("version", "guarded"), [("6.2.7", False), ("7.0.15", True), ("8.0.1", True)])
def test_redis_6_does_not_know_the_option_for_debugging(tmp_path: Path, version: str, guarded: bool) -> None:
    assert ("--enable-debug-command" in launched(version=version, tmp_path=tmp_path)) is guarded


# --- a harness over it ----------------------------------------------------------------------------


def test_the_harness_restarts_freezes_and_counts(server: ProcessService) -> None:
    harness = ServiceHarness(server, refused="redis://nobody:wrong@{address}/0", options={"lease": 3})
    assert harness.refused_url == f"redis://nobody:wrong@127.0.0.1:{server.place.port}/0"
    assert harness.url("n", {"lease": 5}) == f"{server.url}?namespace=n&lease=5"
    assert harness.url("n", {}) == f"{server.url}?namespace=n&lease=3"
    assert [harness.can(verb) for verb in ("restart", "pause", "resume", "connections")] == [True] * 4
    ask_redis(server.place, "SET", "kit:kept", "1")

    async def harm() -> None:
        pid = server.pid
        await harness.restart()
        assert server.pid != pid
        assert await harness.connections() == 0
        await harness.pause()
        await harness.resume()

    asyncio.run(harm())
    assert ask_redis(server.place, "GETDEL", "kit:kept") == b"1"


def test_a_server_of_somebody_else_is_not_harmed() -> None:
    harness = ServiceHarness(ExternalService("redis", "redis://h:6379/0"), url="rediss://u:p@{address}/1")
    assert harness.base_url == "rediss://u:p@h:6379/1"
    assert harness.refused_url is None
    assert not any(harness.can(verb) for verb in ("restart", "pause", "resume"))
    assert asyncio.run(harness.connections()) is None


def test_a_proxy_stands_before_every_server_with_a_port(server: ProcessService) -> None:
    async def through() -> bytes:
        async with CaseContext(ServiceHarness(server), "proxied") as context:
            proxy = context.proxy()
            place = Place(port=proxy.port, directory=Path())
            assert context.url(via=proxy).startswith(f"redis://127.0.0.1:{proxy.port}/0?namespace=proxied-")
            return await asyncio.to_thread(ask_redis, place, "PING")

    assert asyncio.run(through()) == b"PONG"


def test_a_broker_without_a_wire_has_no_proxy() -> None:
    from tranship.testing.harness import Harness

    async def through() -> None:
        async with CaseContext(Harness("memory://here"), "proxied") as context:
            context.proxy()

    with pytest.raises(CaseSkipped, match="not reached over a wire"):
        asyncio.run(through())
