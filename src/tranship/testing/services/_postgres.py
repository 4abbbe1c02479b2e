"""PostgreSQL: how to start one, and how to look at it without any library of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tranship.testing.services._contract import Launch, Place, Recipe, Service, ServiceFailed
from tranship.testing.services._docker import DockerService

__all__ = ["postgres_recipe"]

_TIMEOUT: Final = 5.0
_INIT_TIMEOUT: Final = 60.0
_IMAGE: Final = "postgres:17-alpine"
_PORT: Final = 5432
_USER: Final = "tranship"
_KEPT_IN: Final = "password"
"""The file that it is in."""
_IN_CONTAINER: Final = "guest"
_PROTOCOL: Final = 196_608
"""Version 3.0."""
_UNPRIVILEGED: Final = ("postgres", "nobody")
"""Who it runs as where we are root, for whom it refuses to start."""
_SETTINGS: Final = (
    "unix_socket_directories=",
    # A killed process loses nothing that the system has; only a machine that loses its power would.
    "fsync=off",
    "shared_buffers=16MB",
    "max_connections=200",
    "listen_addresses=127.0.0.1",
)


def postgres_recipe() -> Recipe:
    """Return how to start a PostgreSQL server, on the loopback alone, with a password that nobody else knows."""
    recipe = Recipe(
        name="postgres",
        # Debian keeps it apart from PATH, each version by itself.
        binaries=(*(f"/usr/lib/postgresql/{version}/bin/postgres" for version in range(20, 12, -1)), "postgres"),
        url=_url,
        launch=_launch,
        ready=_serves,
        packages=("postgresql",),
        unfit=_unfit,
        stop_signal=signal.SIGINT,
    )
    return dataclasses.replace(recipe, container=lambda: _container(recipe))


def _url(place: Place) -> str:
    password = _IN_CONTAINER
    with contextlib.suppress(OSError):
        password = (place.directory / _KEPT_IN).read_text()
    return f"postgresql://{_USER}:{password}@{place.host}:{place.port}/postgres"


def _unfit(binary: str) -> str:
    if os.geteuid() == 0 and not (_unprivileged() and shutil.which("setpriv")):
        return "does not run as root, and there is no setpriv, or no other user, to start it with"
    if not _initdb(binary).exists():
        return "has no initdb beside it"
    return ""


def _initdb(binary: str) -> Path:
    return Path(binary).resolve().with_name("initdb")


def _unprivileged() -> tuple[int, int] | None:
    """Return the ids of a user and his group."""
    # Not on Windows, where no server is started.
    import pwd

    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
    return None


def _launch(binary: str, place: Place) -> Launch:
    password, data = place.directory / _KEPT_IN, place.directory / "data"
    runner: Sequence[str] = ()
    if not password.exists():
        password.write_text(secrets.token_hex(16))
    if os.geteuid() == 0 and (user := _unprivileged()):
        for path in (place.directory, password):
            os.chown(path, *user)
        runner = ["setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups", "--"]
    if not data.exists():
        _initialise([*runner, str(_initdb(binary))], data, password)
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    return Launch(command=[*runner, str(Path(binary).resolve()), "-D", str(data), "-p", str(place.port), *settings])


def _initialise(command: Sequence[str], data: Path, password: Path) -> None:
    options = [f"--pgdata={data}", f"--username={_USER}", f"--pwfile={password}", "--auth=scram-sha-256"]
    done = subprocess.run(
        [*command, *options, "--encoding=UTF8", "--locale=C", "--no-sync"],
        cwd="/",
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_INIT_TIMEOUT,
        check=False,
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()[-500:]
        raise ServiceFailed(f"Test server 'postgres' could not make its data directory: {said}")


def _serves(place: Place) -> bool:
    """Whether it asks for a password; while it starts, it answers with an error."""
    said = b"".join(part.encode() + b"\0" for part in ("user", _USER, "database", "postgres")) + b"\0"
    hello = struct.pack("!ii", len(said) + 8, _PROTOCOL) + said
    with socket.create_connection((place.host, place.port), timeout=_TIMEOUT) as link:
        link.sendall(hello)
        return link.recv(1) == b"R"


def _container(recipe: Recipe) -> Service:
    environ = {"POSTGRES_USER": _USER, "POSTGRES_KEPT_IN": _IN_CONTAINER, "POSTGRES_DB": "postgres"}
    return DockerService(recipe, _IMAGE, port=_PORT, environ=environ)
