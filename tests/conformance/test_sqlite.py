"""The SQLite backend keeps the promises of the ports, also between processes and after kills."""

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


class TestPrimitivesOfSQLite(QueueSuite, TableSuite, TopicSuite):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return Harness(f"sqlite:///{tmp_path / 'conformance.db'}")


class TestSQLite(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return Harness(f"sqlite:///{tmp_path / 'conformance.db'}")

    def test_the_report_is_true(self, harness: Harness) -> None:
        check_report(Path(__file__).with_name("sqlite.report.json"), harness, "sqlite", type(self).__bases__)
