"""NATS as the kit starts it: JetStream on files, looked at without a NATS library, and in variants."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tranship.testing.services import DockerService, Place, ProcessService, Service, ask_nats, nats_recipe

pytestmark = pytest.mark.skipif(os.name != "posix", reason="local test servers need POSIX signals")


@pytest.fixture
def server(tranship_service: Callable[[str], Service]) -> ProcessService:
    service = tranship_service("nats")
    if not isinstance(service, ProcessService):
        pytest.skip("the server is not a process of ours")
    return service


def ask(place: Place, subject: str, payload: str = "") -> dict:
    """One request over a plain socket, answered with JSON."""
    with socket.create_connection((place.host, place.port), timeout=5) as link, link.makefile("rb") as lines:
        lines.readline()
        link.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n')
        link.sendall(f"PUB {subject} answer {len(payload)}\r\n{payload}\r\n".encode())
        size = int(lines.readline().split()[-1])
        return json.loads(lines.read(size))


def counted(server: Service, number: int) -> bool:
    """Whether the server counts so many clients soon: it notices an end some time after the client."""
    give_up = time.monotonic() + 5
    while server.client_count() != number and time.monotonic() < give_up:
        pass
    return server.client_count() == number


def test_what_was_answered_survives_a_kill(server: ProcessService) -> None:
    stream = json.dumps({"name": "KIT", "subjects": ["kit.>"], "storage": "file"})
    assert "error" not in ask(server.place, "$JS.API.STREAM.CREATE.KIT", stream)
    assert ask(server.place, "kit.one", "kept") == {"stream": "KIT", "seq": 1}
    server.kill()
    server.start()
    assert ask(server.place, "$JS.API.STREAM.INFO.KIT")["state"]["messages"] == 1
    assert ask(server.place, "$JS.API.STREAM.DELETE.KIT")["success"] is True


def test_clients_are_counted_and_asking_is_none(server: ProcessService) -> None:
    assert counted(server, 0)
    with socket.create_connection((server.place.host, server.place.port)) as link:
        link.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        answered = b""
        while b"PONG" not in answered:
            answered += link.recv(4096)
        assert counted(server, 1)


def test_a_paused_server_answers_nobody_until_it_goes_on(server: ProcessService) -> None:
    server.pause()
    try:
        with (
            socket.create_connection((server.place.host, server.place.port), timeout=0.5) as link,
            pytest.raises(TimeoutError),
        ):
            link.recv(16)
    finally:
        server.resume()
    assert "server_id" in ask_nats(server.place, "varz")


def test_it_listens_on_the_loopback_alone(server: ProcessService) -> None:
    seen = ask_nats(server.place, "varz")
    assert (seen["host"], seen["http_host"]) == ("127.0.0.1", "127.0.0.1")


def test_guests_are_let_in_and_wrong_passwords_are_not(server: ProcessService) -> None:
    for login, answer in ((b"", b"PONG"), (b',"user":"guest","pass":"wrong"', b"-ERR 'Authorization Violation'")):
        place = (server.place.host, server.place.port)
        with socket.create_connection(place, timeout=5) as link, link.makefile("rb") as lines:
            assert lines.readline().startswith(b"INFO")
            link.sendall(b'CONNECT {"verbose":false' + login + b"}\r\nPING\r\n")
            assert lines.readline().startswith(answer)


def test_more_lines_win(server: ProcessService) -> None:
    small = nats_recipe('jetstream { store_dir: "{directory}/small", max_file_store: 1MB }', "max_payload: 64KB")
    with ProcessService(small, server._binary) as variant:
        assert ask_nats(variant.place, "varz")["jetstream"]["config"]["max_storage"] == 1 << 20
        assert ask_nats(variant.place, "varz")["max_payload"] == 64 << 10


def test_a_server_with_a_password_is_ready(server: ProcessService) -> None:
    with ProcessService(nats_recipe('authorization { user: "u", password: "p" }'), server._binary) as guarded:
        assert counted(guarded, 0)


def test_a_server_without_jetstream(server: ProcessService) -> None:
    with ProcessService(nats_recipe(jetstream=False), server._binary) as plain:
        assert not ask_nats(plain.place, "varz")["jetstream"]


def test_a_container_is_known_for_the_plain_server_only(tmp_path: Path) -> None:
    assert nats_recipe().container is not None
    assert nats_recipe("max_payload: 64KB").container is None
    assert nats_recipe(jetstream=False).container is None
    pytest.importorskip("testcontainers")
    assert isinstance(nats_recipe().container(), DockerService)
