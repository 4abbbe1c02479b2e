"""Both facades and the worker keep their promises on Redis."""

from __future__ import annotations

import pytest

from tranship.testing.harness import Harness
from tranship.testing.suites import FacadeSuite, WorkerSuite

pytestmark = pytest.mark.timeout(180)


class TestFacadeOnRedis(FacadeSuite):
    @pytest.fixture
    def harness(self, redis_harness) -> Harness:
        return redis_harness()


class TestWorkerOnRedis(WorkerSuite):
    @pytest.fixture
    def harness(self, redis_harness) -> Harness:
        return redis_harness()
