"""RabbitMQ as the kit starts it: a node that shares nothing with others, and dies as a whole."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tranship.testing.services import (
    Launch,
    Place,
    ProcessService,
    RabbitMQRefused,
    Service,
    accepts,
    rabbitmq_recipe,
    rabbitmqctl,
)

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="local test servers need POSIX signals"),
    pytest.mark.timeout(180),
]


@pytest.fixture
def server(tranship_service: Callable[[str], Service]) -> ProcessService:
    service = tranship_service("rabbitmq")
    if not isinstance(service, ProcessService):
        pytest.skip("the server is not a process of ours")
    return service


def launched(tmp_path: Path, *lines: str, **options) -> Launch:
    return rabbitmq_recipe(*lines, **options).launch("/nowhere/rabbitmq-server", Place(port=7001, directory=tmp_path))


def test_it_dies_as_a_whole_and_comes_back_with_its_data(server: ProcessService) -> None:
    rabbitmqctl(server.place, "add_vhost", "kept")
    port = Place(port=int(server._launch.environ["ERL_EPMD_PORT"]), directory=Path())
    assert accepts(port)
    server.kill()
    give_up = time.monotonic() + 5
    while accepts(port) and time.monotonic() < give_up:
        pass  # the rest of the group is on its way
    assert not accepts(port), "the port mapper has outlived its node"
    server.start()
    assert "kept" in rabbitmqctl(server.place, "list_vhosts").split()
    rabbitmqctl(server.place, "delete_vhost", "kept")


def connect(place: Place) -> socket.socket:
    """A connection that is really open: AMQP by hand."""
    link = socket.create_connection((place.host, place.port), timeout=5)

    def send(method: bytes) -> None:
        link.sendall(b"\x01\x00\x00" + struct.pack(">I", len(method)) + method + b"\xce")

    def hear(method: bytes) -> None:
        size = struct.unpack(">I", link.recv(7, socket.MSG_WAITALL)[3:])[0]
        assert link.recv(size + 1, socket.MSG_WAITALL)[:4] == method

    link.sendall(b"AMQP\x00\x00\x09\x01")
    hear(b"\x00\x0a\x00\x0a")
    send(
        b"\x00\x0a\x00\x0b" + b"\x00\x00\x00\x00" + b"\x05PLAIN" + b"\x00\x00\x00\x0c\x00guest\x00guest" + b"\x05en_US"
    )
    hear(b"\x00\x0a\x00\x1e")
    send(b"\x00\x0a\x00\x1f" + struct.pack(">HIH", 16, 131_072, 0))
    send(b"\x00\x0a\x00\x28" + b"\x01/" + b"\x00\x00")
    hear(b"\x00\x0a\x00\x29")
    return link


def test_clients_are_counted_and_asking_is_none(server: ProcessService) -> None:
    before = server.client_count()
    with connect(server.place):
        assert server.client_count() == before + 1


def test_refusals_are_raised_with_the_commands_text(server: ProcessService) -> None:
    with pytest.raises(RabbitMQRefused, match=r"rabbitmqctl delete_vhost nosuch: .*nosuch"):
        rabbitmqctl(server.place, "delete_vhost", "nosuch")


def test_more_lines_of_its_configuration(tmp_path: Path) -> None:
    launch = launched(tmp_path, "log.dir = {directory}/other", "consumer_timeout = 10000", plugins=["rabbitmq_top"])
    lines = (tmp_path / "rabbitmq.conf").read_text().splitlines()
    assert lines[0] == "listeners.tcp.1 = 127.0.0.1:7001"
    assert lines[-2:] == [f"log.dir = {tmp_path}/other", "consumer_timeout = 10000"]
    assert (tmp_path / "enabled_plugins").read_text() == "[rabbitmq_top].\n"
    assert launch.environ["HOME"] == str(tmp_path)


def test_two_nodes_share_no_port(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, two = launched(tmp_path).environ, launched(tmp_path / "other").environ
    ports = [environ[name] for environ in (one, two) for name in ("ERL_EPMD_PORT", "RABBITMQ_DIST_PORT")]
    assert len(set(ports)) == 4


def test_the_wrapper_that_changes_user_is_the_last_choice() -> None:
    assert rabbitmq_recipe().binaries == ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")


def test_a_container_is_known_for_the_plain_server_only() -> None:
    assert rabbitmq_recipe().container is not None
    assert rabbitmq_recipe("consumer_timeout = 10000").container is None
    assert rabbitmq_recipe(plugins=["rabbitmq_top"]).container is None
