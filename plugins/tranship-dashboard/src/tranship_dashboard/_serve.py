"""The dashboard as a server of its own."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import uvicorn

from tranship.errors import ConfigurationError
from tranship.settings import Settings
from tranship_dashboard._app import NEW, Dashboard

__all__ = ["serve"]

LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")


def serve(
    settings: Settings,
    tasks: Sequence[Any],
    *,
    host: str,
    port: int,
    token: str | None,
    no_token: bool,
    read_only: bool,
    keep_samples: bool,
    root_path: str,
    served_as: Sequence[str],
    say: Callable[[str], None],
    warn: Callable[[str], None] | None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        served_as: further names by which it may be asked, where there is no token.
        say: prints a line, with the address.
        warn: says that others than this machine can reach it; None: they cannot.

    Raises:
        ConfigurationError: nobody can listen there.
    """
    shown = f"[{host}]" if ":" in host else host
    # Without a token, a page whose name leads to this machine could do everything. Elsewhere any name may be right.
    hosts = [*served_as, *((*LOCAL, shown) if warn is None else ())] if no_token else ()
    chosen = None if no_token else NEW if token is None else token
    dashboard = Dashboard(
        settings=settings, tasks=tasks, token=chosen, read_only=read_only, keep_samples=keep_samples, hosts=hosts
    )
    listener = _listen(host, port)
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
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"nobody can listen at {host}, port {port}: {why}") from error
    return listener
