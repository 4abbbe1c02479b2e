"""What every test of this plugin may use: a real Redis, one per pytest process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis_kit import Raw

from tranship.testing.lab import Lab
from tranship.testing.served import ServiceHarness
from tranship.testing.services import Service, ServiceFinder, ServiceNotFound, redis_recipe

NOTICES_SOON = {"keepalive": 1.0, "command_timeout": 3.0}
"""Options with which a silent server is noticed in seconds: the defaults are tested by themselves."""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's settings or writes to their state directory."""
    for name in [name for name in os.environ if name.startswith("TRANSHIP_")]:
        if not name.startswith("TRANSHIP_TEST_"):
            monkeypatch.delenv(name)
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "state"))


@pytest.fixture
def redis_service(tranship_service: Callable[[str], Service]) -> Service:
    """A Redis that runs; tests may harm it. Skipped where there is none, failed where one is required."""
    return tranship_service("redis")


class RedisHarness(ServiceHarness):
    """A Redis where other programs cancel a key by setting it."""

    async def leave_mark(self, key: str) -> None:
        await asyncio.to_thread(Raw(self.service), "SET", key, "1")

    async def take_mark(self, key: str) -> None:
        await asyncio.to_thread(Raw(self.service), "DEL", key)


@pytest.fixture
def redis_harness(redis_service: Service) -> Callable[..., ServiceHarness]:
    """Make a harness of that Redis: ``redis_harness(protocol=2)``; the arguments are URL options."""

    def harness(**options: object) -> ServiceHarness:
        return RedisHarness(
            redis_service, refused="redis://nobody:wrong@{address}/0", options={**NOTICES_SOON, **options}
        )

    return harness


@pytest.fixture
def raw(redis_service: Service) -> Raw:
    """Raw commands to that Redis."""
    return Raw(redis_service)


@pytest.fixture
async def lab(redis_harness: Callable[..., ServiceHarness], request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """A namespace of the test's own on that Redis; what was opened is closed and checked."""
    async with Lab(redis_harness(), request.node.name) as lab:
        yield lab


@pytest.fixture
def redis_variant() -> Iterator[Callable[..., Service]]:
    """Start a Redis of another kind, such as ``redis_variant("--maxmemory", "3mb")``; arguments as of its recipe."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **options: object) -> Service:
            finder = ServiceFinder([redis_recipe(*arguments, **options)])
            try:
                service = finder.find("redis")
            except ServiceNotFound as error:
                (pytest.fail if "redis" in finder.required else pytest.skip)(str(error))
            if not service.controllable:
                pytest.skip("the Redis that was given by URL cannot be started in other variants")
            stack.callback(service.close)
            service.start()
            return service

        yield start
