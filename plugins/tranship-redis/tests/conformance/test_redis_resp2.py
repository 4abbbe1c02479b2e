"""The same promises where the server speaks RESP2 only, and where it does not tell idle workers anything."""

from __future__ import annotations

import pytest

from tranship.testing.harness import Harness
from tranship.testing.suites import (
    ConsumerSuite,
    ControlSuite,
    InspectorSuite,
    LifecycleSuite,
    ResultStoreSuite,
    SubmitterSuite,
)

pytestmark = pytest.mark.timeout(180)


class TestRedisWithRESP2(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite):
    @pytest.fixture
    def harness(self, redis_harness) -> Harness:
        return redis_harness(protocol=2)


class TestRedisWithoutTracking(ConsumerSuite):
    @pytest.fixture
    def harness(self, redis_harness) -> Harness:
        return redis_harness(tracking="off")
