"""The brokers that chaos is made on, by URL."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tranship.testing.services import Service, ServiceFinder, ServiceNotFound

LEASE = 2.0
SERVERS = ("redis",)
"""Brokers that are servers, by the name the test kit finds them under. They must lose nothing they answered for."""
FILES = {"power-safe": "", "process-safe": "durability=process&"}
"""The embedded broker, in the ways it is used across processes."""


@pytest.fixture
def tell(request, capsys) -> Callable[[str], None]:
    """Print a line whatever pytest captures: the counts are what this is for."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {text}")

    return line


@pytest.fixture(scope="session")
def scale() -> int:
    """How many times the usual; the nox session ``chaos`` sets it."""
    return int(os.environ.get("TRANSHIP_TEST_CHAOS", "1"))


@pytest.fixture(params=[*FILES, *SERVERS])
def url(request, tmp_path: Path, tranship_service: Callable[[str], Service]) -> str:
    """A broker that this test has to itself."""
    if request.param in FILES:
        return f"sqlite:///{tmp_path / 'chaos.db'}?{FILES[request.param]}lease={LEASE:g}"
    need_plugin(request.param)
    return own_part(tranship_service(request.param).url)


@pytest.fixture
def pace(url: str) -> tuple[float, float]:
    """How long to let things be between two kills: where a lease has to end first, fewer fit in."""
    return (0.1, 0.4) if url.startswith("sqlite") else (0.2, 0.7)


@pytest.fixture(params=SERVERS)
def server(request) -> Iterator[Service]:
    """A server that this test may harm."""
    need_plugin(request.param)
    finder = ServiceFinder()
    try:
        service = finder.find(request.param)
    except ServiceNotFound as error:
        (pytest.fail if request.param in finder.required else pytest.skip)(str(error))
    if not service.controllable:
        pytest.skip(f"{request.param} was given by URL and is not ours to kill")
    service.start()
    yield service
    service.close()


def need_plugin(name: str) -> None:
    """Skip the test, or fail it where the broker is required, if its plugin is not installed."""
    if find_spec(f"tranship_{name}") is None:
        (pytest.fail if name in ServiceFinder().required else pytest.skip)(f"tranship[{name}] is not installed")


def own_part(url: str) -> str:
    """Return the URL of a part of the server that nobody else uses."""
    return f"{url}{'&' if '?' in url else '?'}lease={LEASE:g}&namespace=chaos-{uuid.uuid4().hex[:12]}"
