"""The four tiers of a backend: what each needs, the cases that it is judged by, and the tier that a run has reached.

==== ======================================= ==============================================================
tier what it is                              what has to be declared
==== ======================================= ==============================================================
1    submit and consume                      nothing: ``send``, ``take`` and ``end``
2    leases, delays, priorities              LEASE, DELAY, PRIORITY
3    a table                                 RESULTS, DEAD_LETTERS, CONTROL, KEY_WINDOW
4    a topic, and looking into queues        RESULT_PUSH, DELAY_CANCEL, INSPECT_DEPTH, -_IN_FLIGHT, -_OLDEST
==== ======================================= ==============================================================

A tier is reached when it and all below it are declared and none of their cases has failed. What else is declared, such
as FUSED_SETTLE, has to behave, too: its cases belong to the tier that they need otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tranship.hookspecs import API_VERSION
from tranship.ports import Capabilities, Capability
from tranship.testing.case import Case, CaseReport, cases_of
from tranship.testing.context import HarnessLacks
from tranship.testing.suites import (
    ConsumerSuite,
    ControlSuite,
    FacadeSuite,
    InspectorSuite,
    LifecycleSuite,
    LogSuite,
    QueueSuite,
    ResultStoreSuite,
    SubmitterSuite,
    TableSuite,
    TopicSuite,
    WorkerSuite,
)

__all__ = ["TIERS", "Standing", "Tier", "TierResult", "judge", "required_cases", "tier_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One tier: what a backend of it can do beyond the one below."""

    number: int
    title: str
    needs: frozenset[Capability]
    """What has to be declared, natively or emulated."""
    suites: tuple[type, ...]
    """The suites that begin to matter here; those of the tiers below have more cases for it, too."""


TIERS: Final = (
    Tier(
        number=1,
        title="submit and consume",
        needs=frozenset(),
        suites=(QueueSuite, SubmitterSuite, ConsumerSuite, LifecycleSuite, FacadeSuite, WorkerSuite),
    ),
    Tier(
        number=2,
        title="leases, delays, priorities",
        needs=frozenset({Capability.LEASE, Capability.DELAY, Capability.PRIORITY}),
        suites=(),
    ),
    Tier(
        number=3,
        title="a table: results, dead letters, cancels, duplicates",
        needs=frozenset({Capability.RESULTS, Capability.DEAD_LETTERS, Capability.CONTROL, Capability.KEY_WINDOW}),
        suites=(TableSuite, ResultStoreSuite, ControlSuite, InspectorSuite),
    ),
    Tier(
        number=4,
        title="a topic, and looking into queues: push, live commands, counts",
        needs=frozenset(
            {
                Capability.RESULT_PUSH,
                Capability.DELAY_CANCEL,
                Capability.INSPECT_DEPTH,
                Capability.INSPECT_IN_FLIGHT,
                Capability.INSPECT_OLDEST,
            }
        ),
        suites=(TopicSuite, LogSuite),
    ),
)
_BY_CAPABILITY: Final = {capability: tier.number for tier in TIERS for capability in tier.needs}
_BY_SUITE: Final = {suite.__name__: tier.number for tier in TIERS for suite in tier.suites}
_JUDGED: Final = ("core", "capability")


def tier_of(described: Case) -> int:
    """Return the number of the tier that a case belongs to: the highest that it, or its suite, needs."""
    return max(_BY_SUITE.get(described.suite, 1), *(_BY_CAPABILITY.get(need, 1) for need in described.needs), 1)


def required_cases(tier: Tier) -> Sequence[Case]:
    """Return the cases that a tier is judged by, those of the tiers below it left out."""
    every = cases_of(*(suite for one in TIERS for suite in one.suites))
    return [one for one in every if one.level in _JUDGED and tier_of(one) == tier.number]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierResult:
    """What a run has shown of one tier."""

    tier: Tier
    missing: Sequence[Capability]
    """What is not declared and would have to be."""
    passed: int
    failed: Sequence[CaseReport]
    left_out: Sequence[CaseReport]
    """Cases that the harness could not run, such as those that restart the broker."""
    reached: bool
    """Whether this tier and all below it are declared, and hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a run has shown of a backend."""

    backend: str
    tiers: Sequence[TierResult]

    @property
    def tier(self) -> int:
        """The number of the highest tier that is reached; 0: not even the first."""
        return max((one.tier.number for one in self.tiers if one.reached), default=0)

    @property
    def passed(self) -> int:
        """How many cases passed."""
        return sum(one.passed for one in self.tiers)

    @property
    def failed(self) -> Sequence[CaseReport]:
        """Every case that failed."""
        return [report for one in self.tiers for report in one.failed]

    @property
    def left_out(self) -> Sequence[CaseReport]:
        """Every case that the harness could not run."""
        return [report for one in self.tiers for report in one.left_out]

    @property
    def badge(self) -> str:
        """One line for a README: the tier, how many cases passed, and the API they are of."""
        api = ".".join(map(str, API_VERSION))
        said = f"tier {self.tier} of {len(TIERS)}" if self.tier else "no tier"
        return f"tranship conformance: {said}, {self.passed} cases passed, {len(self.failed)} failed (API {api})"


def judge(backend: str, capabilities: Capabilities, reports: Iterable[CaseReport]) -> Standing:
    """Say which tier a run has reached.

    Args:
        backend: its name.
        capabilities: what it declares.
        reports: how each case of all suites ended; cases that are not there are not missed.
    """
    by_tier: dict[int, list[CaseReport]] = {tier.number: [] for tier in TIERS}
    for report in reports:
        by_tier[tier_of(report.case)].append(report)
    results: list[TierResult] = []
    below = True
    for tier in TIERS:
        results.append(_result(tier, capabilities, by_tier[tier.number], below=below))
        below = results[-1].reached
    return Standing(backend=backend, tiers=results)


def _result(tier: Tier, capabilities: Capabilities, reports: Collection[CaseReport], *, below: bool) -> TierResult:
    missing = sorted(need for need in tier.needs if not capabilities.has(need))
    failed = [one for one in reports if one.outcome == "failed"]
    passed = sum(one.outcome == "passed" for one in reports)
    return TierResult(
        tier=tier,
        missing=missing,
        passed=passed,
        failed=failed,
        left_out=[one for one in reports if isinstance(one.error, HarnessLacks)],
        reached=below and not missing and not failed and passed > 0,
    )
