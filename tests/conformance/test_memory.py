"""The memory backend keeps the promises of the ports, and of the primitives that it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tranship.testing.harness import Harness
from tranship.testing.report import check_report
from tranship.testing.suites import (
    ConsumerSuite,
    ControlSuite,
    InspectorSuite,
    LifecycleSuite,
    QueueSuite,
    ResultStoreSuite,
    SubmitterSuite,
    TableSuite,
    TopicSuite,
)


class TestPrimitivesOfMemory(QueueSuite, TableSuite, TopicSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness("memory://conformance")


class TestMemory(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness("memory://conformance")

    def test_the_report_is_true(self, harness: Harness) -> None:
        check_report(Path(__file__).with_name("memory.report.json"), harness, "memory", type(self).__bases__)
