"""The dashboard as a server of its own."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn

from tranship.errors import ConfigurationError
from tranship.settings import Settings
from tranship_dashboard._app import NEW, Dashboard

__all__ = ["serve"]


def serve(
    settings: Settings,
    tasks: Sequence[Any],
    *,
    host: str,
    port: int,
    token: str | None,
    no_token: bool,
    read_only: bool,
    root_path: str,
    say: Callable[[str], None],
    warn: Callable[[str], None] | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        say: prints a line, with the address.
        warn: says that others than this machine can reach it; None: they cannot.

    Raises:
        ConfigurationError: nobody can listen there.
    """
    dashboard = Dashboard(settings=settings, tasks=tasks, token=None if no_token else token or NEW, read_only=read_only)
    listener = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}{root_path}/"
    query = "" if dashboard.token is None or token is not None else f"?token={dashboard.token}"
    say(f"{settings.broker_url} is shown at {address}{query}")
    # Whoever reads it from a pipe is waiting for it.
    sys.stdout.flush()
    if warn is not None:
        warn("others can reach this address, and what is sent is not encrypted; put a proxy with TLS in front of it")
    config = uvicorn.Config(
        dashboard,
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        root_path=root_path,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Whoever follows the address as soon as it is printed waits for the server.
        listener.listen(128)
    except OSError as error:
        raise ConfigurationError(f"nobody can listen at {host}, port {port}: {error.strerror or error}") from error
    return listener
