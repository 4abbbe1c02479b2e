"""A server in a container, harmed through Docker."""

from __future__ import annotations

import contextlib
import importlib
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tranship.errors import UnsupportedError
from tranship.testing.services._contract import LOCALHOST, Place, Recipe, ServiceFailed, ServiceNotFound, free_port

__all__ = ["DockerService", "docker_answers"]

_PROBE_INTERVAL: Final = 0.05
_TAIL_LINES: Final = 20
_PING: Final = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"


def docker_answers(environ: Mapping[str, str]) -> bool:
    """Say whether a Docker daemon answers at ``DOCKER_HOST`` (a socket's path or plain TCP)."""
    address = environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    with contextlib.suppress(OSError, ValueError), _connect(address) as link:
        link.sendall(_PING)
        return link.recv(64).startswith(b"HTTP/1.1 200")
    return False


def _connect(address: str) -> socket.socket:
    scheme, _, rest = address.partition("://")
    if scheme == "tcp":
        host, _, port = rest.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=2.0)
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(2.0)
    try:
        link.connect(rest)
    except OSError:
        link.close()
        raise
    return link


class DockerService:
    """Runs an image through testcontainers, under a recipe's name and with its probes.

    The host's port is chosen once and kept: Docker would hand out another one after each restart. The
    container keeps its data until :meth:`close`; should our process die, testcontainers' reaper removes it.

    Args:
        recipe: name, URL, probes and patience.
        image: what to run, such as ``"redis:7"``.
        port: where the server listens inside.
        command: what to run instead of the image's own; may be empty.
        environ: variables for the container.

    Raises:
        ServiceNotFound: testcontainers is not installed.
    """

    def __init__(
        self,
        recipe: Recipe,
        image: str,
        *,
        port: int,
        command: Sequence[str] = (),
        environ: dict[str, str] | None = None,
    ) -> None:
        self._recipe = recipe
        self._image = image
        self._make = _testcontainers(recipe.name)
        self._port = port
        self._command = list(command)
        self._environ = environ or {}
        self._place = Place(port=0, directory=Path("/"))
        self._owner: Any = None
        self._container: Any = None
        self._runs = self._paused = False

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self._recipe.name

    @property
    def place(self) -> Place:
        """Where it is reached from here; the port is 0 before the first :meth:`start`."""
        return self._place

    @property
    def url(self) -> str:
        """Where clients connect; the same from the first :meth:`start` on."""
        return self._recipe.url(self._place)

    @property
    def controllable(self) -> bool:
        """True: the container is ours."""
        return True

    def start(self) -> str:
        """Start the container where it does not run, wait until the server is ready and return :attr:`url`.

        Raises:
            ServiceFailed: Docker refused, or the server was not ready within the recipe's ``start_timeout``.
        """
        if not self._runs:
            if self._container is None:
                self._create()
            else:
                self._do("start")
            self._runs = True
            self._wait_ready()
        return self.url

    def stop(self) -> None:
        """Send SIGTERM and wait; Docker kills it after the recipe's ``stop_timeout``."""
        if self._runs:
            self._unfreeze()
            self._do("stop", timeout=int(self._recipe.stop_timeout))
            self._runs = False

    def kill(self) -> None:
        """Send SIGKILL to the server and wait until it is gone."""
        if self._runs:
            self._unfreeze()
            self._do("kill")
            self._do("wait", timeout=self._recipe.stop_timeout)
            self._runs = False

    def restart(self) -> str:
        """Stop the server where it runs, start it on the same port with the same data; return :attr:`url`."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze every process of the container; it is frozen on return."""
        if not self._runs:
            raise self._failure("does not run; start it before you pause it")
        self._do("pause")
        self._paused = True

    def resume(self) -> None:
        """Let it go on."""
        self._unfreeze()

    def logs(self) -> str:
        """Standard output and error of all runs so far."""
        return "" if self._container is None else bytes(self._do("logs")).decode(errors="replace")

    def ended(self) -> str:
        """Nothing: Docker is not asked between two calls."""
        return ""

    def client_count(self) -> int:
        """Ask the server. Raises UnsupportedError where the recipe does not know how."""
        if self._recipe.count_clients is None:
            raise UnsupportedError(f"The recipe of {self.name!r} cannot count clients; give it `count_clients`.")
        return self._recipe.count_clients(self._place)

    def close(self) -> None:
        """Remove the container with its data. Idempotent."""
        owner, self._owner, self._container = self._owner, None, None
        self._runs = self._paused = False
        if owner is not None:
            owner.stop()

    def _create(self) -> None:
        port = free_port()
        self._owner = self._make(self._image).with_bind_ports(self._port, port).with_envs(**self._environ)
        if self._command:
            self._owner.with_command(self._command)
        try:
            self._owner.start()
        except Exception as error:
            self.close()
            raise self._failure(f"could not be created: {error}") from error
        self._container = self._owner.get_wrapped_container()
        host = str(self._owner.get_container_host_ip())
        self._place = Place(port=port, directory=Path("/"), host=LOCALHOST if host == "localhost" else host)

    def _wait_ready(self) -> None:
        end = time.monotonic() + self._recipe.start_timeout
        pause = threading.Event()
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if self._recipe.ready(self._place):
                    return
            pause.wait(_PROBE_INTERVAL)
        failure = self._failure(f"was not ready within {self._recipe.start_timeout:g} s")
        self.close()
        raise failure

    def _unfreeze(self) -> None:
        # Docker neither stops nor kills what is paused.
        if self._paused:
            self._do("unpause")
            self._paused = False

    def _do(self, verb: str, **options: Any) -> Any:
        try:
            return getattr(self._container, verb)(**options)
        except Exception as error:
            raise self._failure(f"could not be told to {verb}: {error}") from error

    def _failure(self, what: str) -> ServiceFailed:
        tail = ""
        with contextlib.suppress(Exception):
            tail = "\n".join(bytes(self._container.logs()).decode(errors="replace").splitlines()[-_TAIL_LINES:])
        return ServiceFailed(
            f"Test server {self.name!r} (container of {self._image}) {what}. Its last log lines:\n{tail}"
        )


def _testcontainers(name: str) -> Callable[[str], Any]:
    try:
        # Found by name: it is an option of the kit, not a dependency.
        make: Callable[[str], Any] = importlib.import_module("testcontainers.core.container").DockerContainer
    except ImportError as error:
        raise ServiceNotFound(
            f"a container of {name!r} needs testcontainers, which cannot be imported ({error}); "
            "pip install testcontainers"
        ) from error
    return make
