"""What every test of this plugin may use: a real NATS server with JetStream, one per pytest process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, settings

from tranship.testing.context import CaseContext
from tranship.testing.pytest_plugin import StartService
from tranship.testing.service_harness import ServiceHarness
from tranship.testing.services import ProcessService, Service, nats_recipe

# How long one example takes says more about the machine than about the code.
settings.register_profile("tranship", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tranship")

NOTICES_SOON = {"keepalive": 1.0, "command_timeout": 3.0}
"""Options with which a silent server is noticed in seconds."""


@pytest.fixture
def nats_service(tranship_service: Callable[[str], Service]) -> Service:
    """A NATS server that runs; tests may harm it. Skipped where there is none, failed where one is required."""
    return tranship_service("nats")


@pytest.fixture
def nats_harness(nats_service: Service) -> Callable[..., ServiceHarness]:
    """Make a harness of that server: ``nats_harness(storage="memory")``; the arguments are URL options."""

    def harness(**options: object) -> ServiceHarness:
        # One that we start lets in who shows no password, and nobody with a wrong one.
        refused = "nats://nobody:open-sesame@{address}" if isinstance(nats_service, ProcessService) else None
        # Asking the monitoring port is no connection of a client.
        harness = ServiceHarness(nats_service, refused=refused, options=options, impatient=NOTICES_SOON, probes=0)
        # A refusal is a line of the protocol, which nats-py does not read here.
        harness.native_errors = False
        return harness

    return harness


@pytest.fixture
async def lab(
    nats_harness: Callable[..., ServiceHarness], request: pytest.FixtureRequest
) -> AsyncIterator[CaseContext]:
    """A namespace of the test's own on that server; what was opened is closed and checked."""
    async with CaseContext(nats_harness(), request.node.name) as lab:
        yield lab


@pytest.fixture
def nats_variant(tranship_own_service: StartService) -> Callable[..., Service]:
    """Start a server of another kind, such as ``nats_variant("max_payload: 64KB")``; arguments as of its recipe."""
    return lambda *lines, **options: tranship_own_service(nats_recipe(*lines, **options))
