"""The bridge keeps the promises of the ports on the transports that need no server, blocking and async."""

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
    WorkerSuite,
)

SUITES = (SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite)


class Report:
    """The report is about every suite of the ports: those about what a broker without a table lacks do not apply."""

    name: str

    @pytest.mark.timeout(900)
    def test_the_report_is_true(self, harness: Harness) -> None:
        check_report(Path(__file__).with_name(f"{self.name}.report.json"), harness, f"kombu+{self.name}", SUITES)


class WithResults:
    """Results are kept in SQLite beside it."""

    name: str

    @pytest.fixture
    def harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
        harness: Harness = request.getfixturevalue(f"{self.name}_harness")
        harness.results = Harness(f"sqlite:///{tmp_path}/results.db")
        return harness


class Alone:
    """Results are kept nowhere."""

    name: str

    @pytest.fixture
    def harness(self, request: pytest.FixtureRequest) -> Harness:
        harness: Harness = request.getfixturevalue(f"{self.name}_harness")
        return harness


class TestMemory(Alone, QueueSuite, SubmitterSuite, ConsumerSuite, LifecycleSuite, Report):
    name = "memory"


class TestFilesystem(Alone, QueueSuite, ConsumerSuite, Report):
    name = "filesystem"


class TestSqla(Alone, QueueSuite, ConsumerSuite, Report):
    name = "sqla"


@pytest.mark.campaign
class TestFacadeOnMemory(WithResults, FacadeSuite):
    name = "memory"


@pytest.mark.campaign
class TestWorkerOnMemory(WithResults, WorkerSuite):
    name = "memory"


@pytest.mark.campaign
class TestRestOfFilesystem(Alone, SubmitterSuite, LifecycleSuite):
    name = "filesystem"


@pytest.mark.campaign
class TestFacadeOnFilesystem(WithResults, FacadeSuite):
    name = "filesystem"


@pytest.mark.campaign
class TestWorkerOnFilesystem(WithResults, WorkerSuite):
    name = "filesystem"


@pytest.mark.campaign
class TestRestOfSqla(Alone, SubmitterSuite, LifecycleSuite):
    name = "sqla"


@pytest.mark.campaign
class TestFacadeOnSqla(WithResults, FacadeSuite):
    name = "sqla"


@pytest.mark.campaign
class TestWorkerOnSqla(WithResults, WorkerSuite):
    name = "sqla"
