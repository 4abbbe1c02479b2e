"""The driver's primitives keep the promises that the kit builds on."""

from __future__ import annotations

import pytest

from tranship.testing.harness import Harness
from tranship.testing.suites import TableSuite, TopicSuite

pytestmark = pytest.mark.timeout(180)


class TestRedisDriver(TableSuite, TopicSuite):
    @pytest.fixture
    def harness(self, redis_harness) -> Harness:
        return redis_harness()


class TestRedisDriverWithRESP2(TopicSuite):
    @pytest.fixture
    def harness(self, redis_harness) -> Harness:
        return redis_harness(protocol=2)
