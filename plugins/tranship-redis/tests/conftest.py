"""What every test of this plugin may use: a real Redis, one per pytest process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, settings
from redis_kit import Raw

from tranship.testing.context import CaseContext
from tranship.testing.pytest_plugin import StartService
from tranship.testing.service_harness import ServiceHarness
from tranship.testing.services import Service, redis_recipe

# How long one example takes says more about the machine than about the code.
settings.register_profile("tranship", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tranship")

NOTICES_SOON = {"keepalive": 1.0, "command_timeout": 3.0}
"""Options with which a silent server is noticed in seconds."""


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
            redis_service,
            refused="redis://nobody:open-sesame@{address}/0",
            options=options,
            impatient=NOTICES_SOON,
        )

    return harness


@pytest.fixture
def raw(redis_service: Service) -> Raw:
    """Raw commands to that Redis."""
    return Raw(redis_service)


@pytest.fixture
async def context(
    redis_harness: Callable[..., ServiceHarness], request: pytest.FixtureRequest
) -> AsyncIterator[CaseContext]:
    """A namespace of the test's own on that Redis; what was opened is closed and checked."""
    async with CaseContext(redis_harness(), request.node.name) as context:
        yield context


@pytest.fixture
def redis_variant(tranship_own_service: StartService) -> Callable[..., Service]:
    """Start a Redis of another kind, such as ``redis_variant("--maxmemory", "3mb")``; arguments as of its recipe."""
    return lambda *arguments, **options: tranship_own_service(redis_recipe(*arguments, **options))
