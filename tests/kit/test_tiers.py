"""Which tier a run has reached, and what is said of it."""

from __future__ import annotations

import pytest

from tranship.errors import ConfigurationError
from tranship.ports import Capabilities, Capability, Level
from tranship.testing.case import Case, CaseReport, cases_of
from tranship.testing.conformance import run_conformance
from tranship.testing.context import HarnessLacks
from tranship.testing.harness import Harness
from tranship.testing.suites import DRIVER_SUITES, FACADE_SUITES, PORT_SUITES
from tranship.testing.tiers import TIERS, judge, required_cases, tier_of

EVERYTHING = Capabilities(dict.fromkeys(Capability, Level.NATIVE))


def passed() -> dict[str, CaseReport]:
    """Every case of every tier, passed."""
    every = [one for tier in TIERS for one in required_cases(tier)]
    return {one.id: CaseReport(case=one, outcome="passed") for one in every}


def ended(report: CaseReport, outcome, error: Exception | None = None) -> CaseReport:
    return CaseReport(case=report.case, outcome=outcome, reason="the reason", error=error)


def test_every_case_that_is_no_stress_is_required_by_one_tier() -> None:
    every = {one.id for one in cases_of(*DRIVER_SUITES, *PORT_SUITES, *FACADE_SUITES) if one.level != "stress"}
    assert passed().keys() == every


def test_a_case_belongs_to_the_highest_tier_that_it_needs() -> None:
    by_id: dict[str, Case] = {one.case.id: one.case for one in passed().values()}
    found = {
        name: tier_of(by_id[name]) for name in ("ack_removes", "delay_not_early", "table_ttl", "topic_active_hears_all")
    }
    assert found == {"ack_removes": 1, "delay_not_early": 2, "table_ttl": 3, "topic_active_hears_all": 4}
    assert tier_of(by_id["result_wait_pushed"]) == 4


@pytest.mark.parametrize(("failed", "tier"), [("ack_removes", 0), ("delay_not_early", 1), ("table_ttl", 2)])
def test_one_case_that_fails_ends_the_climb(failed: str, tier: int) -> None:
    reports = passed()
    reports[failed] = ended(reports[failed], "failed")
    standing = judge("mine", EVERYTHING, reports.values())
    assert standing.tier == tier
    assert [one.case.id for one in standing.failed] == [failed]
    assert f"tier {tier}" in standing.badge if tier else "no tier" in standing.badge
    assert "1 failed" in standing.badge


def test_all_of_it_is_the_highest_tier() -> None:
    assert judge("mine", EVERYTHING, passed().values()).tier == 4


def test_what_is_not_declared_is_missing() -> None:
    declared = Capabilities({one: Level.NATIVE for one in Capability if one is not Capability.PRIORITY})
    standing = judge("mine", declared, passed().values())
    assert standing.tier == 1
    assert [list(one.missing) for one in standing.tiers] == [[], [Capability.PRIORITY], [], []]


def test_what_the_harness_cannot_do_is_told_and_hinders_nothing() -> None:
    reports = passed()
    reports["reconnect_publish"] = ended(reports["reconnect_publish"], "skipped", HarnessLacks("no restart"))
    standing = judge("mine", EVERYTHING, reports.values())
    assert standing.tier == 4
    assert [one.case.id for one in standing.left_out] == ["reconnect_publish"]


def test_a_case_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match="there is no case no_such_case up to tier 2"):
        run_conformance(Harness("memory://"), upto=2, only=["no_such_case"])
