"""What every test of this plugin may use: a real orchestrator, and one that answers as it likes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hostile_orchestrator import HostileOrchestrator
from hypothesis import HealthCheck, settings

from servers.orchestrator import orchestrator_service, own_orchestrator  # noqa: F401 - fixtures

# How long one example takes says more about the machine than about the code.
settings.register_profile("tranship", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tranship")


@pytest.fixture
async def hostile() -> AsyncIterator[HostileOrchestrator]:
    """An HTTP server that answers what a test tells it to."""
    async with HostileOrchestrator() as server:
        yield server
