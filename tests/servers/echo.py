"""The echo server as a recipe, and one way to talk to it."""

import socket
import sys
from pathlib import Path

from tranship.testing.services import Launch, Place, Recipe

SERVER = Path(__file__).parent / "echo_server.py"


def make_echo_recipe(*arguments: str, **changes) -> Recipe:
    """A server of a few lines that really runs; ``arguments`` are its own, ``changes`` the recipe's."""

    def launch(binary: str, place: Place) -> Launch:
        return Launch(command=[binary, "-S", str(SERVER), str(place.port), *arguments])

    return Recipe(
        **{
            "name": "echo",
            "binaries": [sys.executable],
            "url": lambda place: f"tcp://{place.host}:{place.port}",
            "launch": launch,
            "count_clients": lambda place: int(ask(place.port, "count")),
            **changes,
        }
    )


def ask(port: int, line: str, *, timeout: float = 20.0) -> str:
    """Send one line on a connection of its own and return the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as link:
        link.sendall(line.encode() + b"\n")
        return link.makefile().readline().strip()
