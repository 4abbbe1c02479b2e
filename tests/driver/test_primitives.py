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
    LogSuite,
    QueueSuite,
    ResultStoreSuite,
    SubmitterSuite,
    TableSuite,
    TopicSuite,
)


class TestPrimitivesOfRows(QueueSuite, TableSuite, TopicSuite, LogSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(fuses=True, waits=True, posts=True, tells=True, log=True, peeks=True, reads=True)


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


class TestPortsWithoutTable(ControlSuite, InspectorSuite):
    """A broker with a log: it keeps cancels and heartbeats there, and dead letters in queues of their own."""

    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(table=False, log=True)


class TestPortsWithoutTableOfOneThatPeeks(InspectorSuite):
    """The broker looks at dead letters without taking them."""

    @pytest.fixture
    def harness(self) -> Harness:
        return RowsHarness(table=False, peeks=True, waits=True)
