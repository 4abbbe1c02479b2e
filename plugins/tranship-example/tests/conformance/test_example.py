"""The example keeps the promises of the ports, blocking and async, and those of the primitives below them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tranship.testing.harness import Harness
from tranship.testing.report import check_report
from tranship.testing.suites import (
    ConsumerSuite,
    ControlSuite,
    FacadeSuite,
    InspectorSuite,
    LifecycleSuite,
    QueueSuite,
    ResultStoreSuite,
    SubmitterSuite,
    TableSuite,
    WorkerSuite,
)


class ExampleHarness(Harness):
    """Files need no server: there is nothing to start, to kill, or to put a proxy before."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"example://{directory}")
        (directory / "file").touch()
        self.refused_url = f"example://{directory}/file"


class OnFiles:
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return ExampleHarness(tmp_path)


class TestPrimitives(OnFiles, QueueSuite, TableSuite): ...


class TestExample(
    OnFiles, SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite
):
    @pytest.mark.timeout(600)
    def test_the_report_is_true(self, harness: Harness) -> None:
        check_report(Path(__file__).with_name("report.json"), harness, "example", type(self).__bases__[1:])


class TestFacadeOnExample(OnFiles, FacadeSuite): ...


class TestWorkerOnExample(OnFiles, WorkerSuite): ...
