"""What every test of this plugin may use: a real RabbitMQ, one per pytest process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, settings

from tranship.testing.lab import Lab
from tranship.testing.pytest_plugin import StartService
from tranship.testing.served import ServiceHarness
from tranship.testing.services import Service, rabbitmq_recipe

# How long one example takes says more about the machine than about the code.
settings.register_profile("tranship", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tranship")

NOTICES_SOON = {"heartbeat": 2, "command_timeout": 3.0}
"""Options with which a silent server is noticed in seconds: the defaults are tested by themselves."""


class RabbitHarness(ServiceHarness):
    """A node takes seconds to start, and its queues a moment more."""

    patience = 15.0


@pytest.fixture
def rabbitmq_service(tranship_service: Callable[[str], Service]) -> Service:
    """A RabbitMQ that runs; tests may harm it. Skipped where there is none, failed where one is required."""
    return tranship_service("rabbitmq")


@pytest.fixture
def rabbitmq_harness(rabbitmq_service: Service) -> Callable[..., ServiceHarness]:
    """Make a harness of that node: ``rabbitmq_harness(queue_type="quorum")``; the arguments are URL options."""

    def harness(**options: object) -> ServiceHarness:
        # Asking is done over Erlang's own distribution and is no connection of a client.
        return RabbitHarness(
            rabbitmq_service,
            refused="amqp://nobody:wrong@{address}/",
            options={**NOTICES_SOON, **options},
            probes=0,
        )

    return harness


@pytest.fixture
async def lab(rabbitmq_harness: Callable[..., ServiceHarness], request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """A namespace of the test's own on that node; what was opened is closed and checked."""
    async with Lab(rabbitmq_harness(), request.node.name) as lab:
        yield lab


@pytest.fixture
def rabbitmq_variant(tranship_own_service: StartService) -> Callable[..., Service]:
    """Start a node of another kind, such as ``rabbitmq_variant("consumer_timeout = 10000")``; arguments as of its
    recipe. Takes about five seconds.
    """
    return lambda *lines, **options: tranship_own_service(rabbitmq_recipe(*lines, **options))
