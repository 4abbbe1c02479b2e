"""The brokers that chaos is made on, by URL."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tranship.testing.pytest_plugin import StartService
from tranship.testing.services import Service, ServiceFinder

LEASE = 2.0
SERVERS = ("redis", "nats", "rabbitmq")
"""Brokers that are servers, by the name the test kit finds them under. They must lose nothing they answered for."""
DAILY = [SERVERS[0], *(pytest.param(name, marks=pytest.mark.campaign) for name in SERVERS[1:])]
"""The same, as parameters: the others take minutes."""
WITHOUT_RESULTS = frozenset({"rabbitmq"})
"""Servers that keep no results: Redis does it for them, and is left alone."""
FORGETFUL = frozenset({"nats", "rabbitmq"})
"""Servers that forget acknowledgements of the last moments when they are killed: what was done runs again."""
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


@pytest.fixture(scope="session")
def tasks(scale: int) -> int:
    """How many tasks workers are killed under: fewer, unless chaos is what the run is for."""
    return 2000 * scale if "TRANSHIP_TEST_CHAOS" in os.environ else 800


@pytest.fixture
def keep_results(tranship_service: Callable[[str], Service], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have results kept for a broker that does not, by the environment: for this process and those it starts."""

    def keep(name: str) -> None:
        if name in WITHOUT_RESULTS:
            need_plugin("redis")
            monkeypatch.setenv("TRANSHIP_RESULT_URL", own_part(tranship_service("redis").url))

    return keep


@pytest.fixture(params=["power-safe", pytest.param("process-safe", marks=pytest.mark.campaign), *DAILY])
def url(
    request, tmp_path: Path, tranship_service: Callable[[str], Service], keep_results: Callable[[str], None]
) -> str:
    """A broker that this test has to itself."""
    if request.param in FILES:
        return f"sqlite:///{tmp_path / 'chaos.db'}?{FILES[request.param]}lease={LEASE:g}"
    need_plugin(request.param)
    keep_results(request.param)
    return own_part(tranship_service(request.param).url)


@pytest.fixture(params=["sqlite", *SERVERS])
def anywhere(
    request, tmp_path: Path, tranship_service: Callable[[str], Service], keep_results: Callable[[str], None]
) -> str:
    """Every broker in turn, one after the other; results are kept."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'drill.db'}?durability=process&lease={LEASE:g}"
    need_plugin(request.param)
    keep_results(request.param)
    return own_part(tranship_service(request.param).url)


@pytest.fixture
def pace(url: str) -> tuple[float, float]:
    """How long to let things be between two kills: where a lease has to end first, fewer fit in."""
    return (0.1, 0.4) if url.startswith("sqlite") else (0.2, 0.7)


@pytest.fixture
def portion(server: Service, scale: int) -> Callable[[int], int]:
    """Say how many of so many: those that start slowly are asked for less, unless chaos is what the run is for."""

    def portion(full: int) -> int:
        return full * scale if server.name == "redis" or "TRANSHIP_TEST_CHAOS" in os.environ else full // 8

    return portion


@pytest.fixture
def breath(server: Service) -> tuple[float, float]:
    """How long to let things be between two kills: a server that takes seconds to start is killed less often."""
    return (0.5, 1.5) if server.name == "rabbitmq" else (0.1, 0.4)


@pytest.fixture(params=DAILY)
def server(request, keep_results: Callable[[str], None], tranship_own_service: StartService) -> Service:
    """A server that this test may harm."""
    need_plugin(request.param)
    keep_results(request.param)
    return tranship_own_service(request.param)


def need_plugin(name: str) -> None:
    """Skip the test, or fail it where the broker is required, if its plugin is not installed."""
    if find_spec(f"tranship_{name}") is None:
        (pytest.fail if name in ServiceFinder().required else pytest.skip)(f"tranship-{name} is not installed")


def own_part(url: str) -> str:
    """Return the URL of a part of the server that nobody else uses."""
    return f"{url}{'&' if '?' in url else '?'}lease={LEASE:g}&namespace=chaos-{uuid.uuid4().hex[:12]}"
