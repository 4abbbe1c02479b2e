"""The driver of rows keeps the promises of the primitives, and the kit makes those of the ports of them."""

from __future__ import annotations

import pytest

from driver.rows_driver import RowsHarness
from tranship.testing.harness import Harness
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


class TestPrimitivesOfRows(QueueSuite, TableSuite, TopicSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(fuses=True, waits=True, posts=True, tells=True)


class TestPortsOfFusedRows(
    SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite
):
    """A broker that does everything in one step, waits, and delays by itself."""

    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(fuses=True, waits=True, posts=True, tells=True)


class TestPortsOfImmediateRows(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite):
    """A broker that never waits, and does nothing in one step: the kit calls it without a task."""

    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(immediate=True)
