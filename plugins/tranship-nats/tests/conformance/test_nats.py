"""The NATS backend keeps the promises of the ports, also over restarts, cuts and silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tranship.testing.case import cases_of, run_case
from tranship.testing.harness import Harness
from tranship.testing.report import check_report
from tranship.testing.service_harness import ServiceHarness
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

pytestmark = pytest.mark.timeout(180)


class TestNatsDriver(QueueSuite, TableSuite, TopicSuite):
    @pytest.fixture
    def harness(self, nats_harness) -> Harness:
        return nats_harness()


class TestNats(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite):
    @pytest.fixture
    def harness(self, nats_harness) -> Harness:
        return nats_harness()

    @pytest.mark.timeout(900)
    def test_the_report_is_true(self, harness: Harness) -> None:
        check_report(Path(__file__).with_name("report.json"), harness, "nats", type(self).__bases__)


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["black_hole_submitter", "black_hole_waiter"])
def test_silence_is_noticed_in_time_with_the_default_options(nats_service, name: str) -> None:
    (case,) = (case for case in cases_of(LifecycleSuite) if case.id == name)
    report = run_case(case, ServiceHarness(nats_service))
    assert report.outcome == "passed", report.reason
