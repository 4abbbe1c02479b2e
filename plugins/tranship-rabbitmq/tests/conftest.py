"""What every test of this plugin may use: a real RabbitMQ, one per pytest process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, settings

from tranship import Client, named
from tranship.testing.context import CaseContext
from tranship.testing.pytest_plugin import StartService
from tranship.testing.service_harness import ServiceHarness
from tranship.testing.services import Service, rabbitmq_recipe

# How long one example takes says more about the machine than about the code.
settings.register_profile("tranship", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tranship")

NOTICES_SOON = {"heartbeat": 2, "command_timeout": 3.0}
"""Options with which a silent server is noticed in seconds."""


class RabbitHarness(ServiceHarness):
    """A node takes seconds to start, and its queues a moment more."""

    patience = 30.0


@pytest.fixture(scope="session")
def used_before() -> set[str]:
    """URLs of servers that have had their first delayed task and their first cancel."""
    return set()


@pytest.fixture
def rabbitmq_service(tranship_service: Callable[[str], Service], used_before: set[str]) -> Service:
    """A RabbitMQ that runs; tests may harm it. Skipped where there is none, failed where one is required.

    What it takes some seconds for, once in its life, it has done: no test's delay has passed before it is submitted.
    """
    service = tranship_service("rabbitmq")
    if service.url not in used_before:
        used_before.add(service.url)
        with Client(service.url, namespace="used-before") as client:
            client.submit(named("nobody").options(delay=0.1, store_result=False))
            client.cancel("nobody")
    return service


@pytest.fixture
def rabbitmq_harness(rabbitmq_service: Service) -> Callable[..., ServiceHarness]:
    """Make a harness of that node: ``rabbitmq_harness(queue_type="quorum")``; the arguments are URL options."""

    def harness(**options: object) -> ServiceHarness:
        # Asking is done over Erlang's own distribution and is no connection of a client.
        return RabbitHarness(
            rabbitmq_service,
            refused="amqp://nobody:open-sesame@{address}/",
            options=options,
            impatient=NOTICES_SOON,
            probes=0,
        )

    return harness


@pytest.fixture
async def lab(
    rabbitmq_harness: Callable[..., ServiceHarness], request: pytest.FixtureRequest
) -> AsyncIterator[CaseContext]:
    """A namespace of the test's own on that node; what was opened is closed and checked."""
    async with CaseContext(rabbitmq_harness(), request.node.name) as lab:
        yield lab


@pytest.fixture
def rabbitmq_variant(tranship_own_service: StartService) -> Callable[..., Service]:
    """Start a node of another kind, such as ``rabbitmq_variant("consumer_timeout = 10000")``; arguments as of its
    recipe. Takes about five seconds.
    """
    return lambda *lines, **options: tranship_own_service(rabbitmq_recipe(*lines, **options))
