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


class WithRESP2:
    @pytest.fixture
    def harness(self, redis_harness) -> Harness:
        return redis_harness(protocol=2)


class TestRedisWithRESP2(WithRESP2, SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite):
    """Tracking needs RESP3: idle workers are told nothing here, either."""


# How a connection is lost and made anew does not depend on what is spoken over it: minutes of outages, for every week.
@pytest.mark.campaign
class TestLifecycleWithRESP2(WithRESP2, LifecycleSuite):
    pass


# The consumer's suite above meets no tracking every day.
@pytest.mark.campaign
class TestRedisWithoutTracking(ConsumerSuite):
    @pytest.fixture
    def harness(self, redis_harness) -> Harness:
        return redis_harness(tracking="off")
