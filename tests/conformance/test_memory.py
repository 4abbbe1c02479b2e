"""The memory backend keeps the promises of the ports."""

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


class TestMemory(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness("memory://conformance")
