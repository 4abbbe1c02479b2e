"""Both facades and the worker keep their promises on RabbitMQ: alone, and with results at Redis."""

from __future__ import annotations

import pytest

from tranship.testing.harness import Harness
from tranship.testing.service_harness import ServiceHarness
from tranship.testing.suites import FacadeSuite, WorkerSuite
from tranship.testing.suites.facade.replies import ReplyCases

pytestmark = pytest.mark.timeout(180)


class TestFacadeOnRabbitMQAlone(ReplyCases):
    @pytest.fixture
    def harness(self, rabbitmq_harness) -> Harness:
        return rabbitmq_harness()


class _WithResultsAtRedis:
    @pytest.fixture
    def harness(self, rabbitmq_harness, tranship_service) -> Harness:
        harness = rabbitmq_harness()
        harness.results = ServiceHarness(tranship_service("redis"))
        return harness


class TestFacadeOnRabbitMQ(_WithResultsAtRedis, FacadeSuite):
    """Everything that needs results."""


class TestWorkerOnRabbitMQ(_WithResultsAtRedis, WorkerSuite):
    """A worker that keeps results at Redis."""
