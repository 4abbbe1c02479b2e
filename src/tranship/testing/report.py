"""Conformance reports: what a backend declares and which cases it passes, kept in a file beside its tests.

Documentation and reviews read the file without a broker at hand; a test of the backend checks that it is true::

    def test_the_report_is_true(self, harness):
        check_report(Path(__file__).with_name("report.json"), harness, "mine", [SubmitterSuite, ConsumerSuite])

``TRANSHIP_TEST_REPORT=write python -m pytest -k report`` runs every case and writes the file anew.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from tranship.ports import Capabilities, Capability, Level, Support
from tranship.testing.case import Case, CaseReport, cases_of, run_case
from tranship.testing.context import CaseContext
from tranship.testing.harness import Harness

__all__ = ["ConformanceReport", "capability_table", "check_report"]

WRITE: Final = "TRANSHIP_TEST_REPORT"
LEVELS: Final = ("core", "capability")
PASSED: Final = "passed"


class ConformanceReport:
    """What one conformance run has found.

    Args:
        backend: the backend's name.
        capabilities: what it declares.
        cases: how each case ended, by id: ``"passed"``, or why it was skipped.
    """

    def __init__(self, backend: str, capabilities: Capabilities, cases: Mapping[str, str]) -> None:
        self.backend = backend
        self.capabilities = capabilities
        self.cases = cases

    @classmethod
    def of(cls, backend: str, capabilities: Capabilities, reports: Iterable[CaseReport]) -> Self:
        """Return the report of a run; what failed in it says so with its reason."""
        return cls(backend, capabilities, {one.case.id: _outcome(one) for one in reports})

    @staticmethod
    async def declared_by(harness: Harness) -> Capabilities:
        """Return what the backend of ``harness`` declares, once connected."""
        return await _capabilities(harness)

    @property
    def passed(self) -> int:
        """How many cases passed."""
        return sum(outcome == PASSED for outcome in self.cases.values())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the report in a file."""
        data = json.loads(path.read_text("utf-8"))
        declared = {
            Capability(name): Support(Level(found.pop("level")), found) for name, found in data["capabilities"].items()
        }
        return cls(data["backend"], Capabilities(declared), data["cases"])

    def write(self, path: Path) -> None:
        """Write the report into a file."""
        data = {"backend": self.backend, "capabilities": declared(self.capabilities), "cases": dict(self.cases)}
        path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")


def check_report(path: Path, harness: Harness, backend: str, suites: Collection[type]) -> None:
    """Insist that the report in ``path`` says what the backend declares now, about every case there is, and that no
    case was skipped which the declared capabilities ask for; or write it anew, when the environment says so or there is
    none.

    Raises:
        AssertionError: it is not true, or a case failed while it was written.
    """
    cases = [one for one in cases_of(*suites) if one.level in LEVELS]
    if os.environ.get(WRITE) == "write" or not path.exists():
        _run(harness, backend, cases).write(path)
    cure = f"run: {WRITE}=write python -m pytest {path.parent.name} -k report"
    report, capabilities = ConformanceReport.read(path), asyncio.run(_capabilities(harness))
    assert report.backend == backend
    assert declared(report.capabilities) == declared(capabilities), f"{path} is not current; {cure}"
    assert list(report.cases) == [one.id for one in cases], f"{path} is about other cases; {cure}"
    for one in cases:
        lacking = [need for need in one.needs if not capabilities.has(need)]
        outcome = report.cases[one.id]
        assert bool(lacking) == outcome.startswith("capability none"), f"{one.id}: {outcome}; {cure}"


def capability_table(capabilities: Capabilities) -> str:
    """Return what a backend declares as a table for its README, in Markdown."""
    rows = ["| capability | | |", "|---|---|---|"]
    for capability, support in capabilities.items():
        properties = ", ".join(f"{name} {value}" for name, value in support.properties.items())
        rows.append(f"| {capability.value} | {support.level.value} | {properties} |")
    return "\n".join(rows) + "\n"


def declared(capabilities: Capabilities) -> dict[str, Any]:
    """Return capabilities as JSON has them."""
    found = {
        capability.value: {"level": support.level.value, **support.properties}
        for capability, support in capabilities.items()
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def _run(harness: Harness, backend: str, cases: Collection[Case]) -> ConformanceReport:
    reports = [run_case(one, harness) for one in cases]
    failed = [f"{one.case.id}: {one.reason}" for one in reports if one.outcome == "failed"]
    assert not failed, f"{len(failed)} cases failed: {'; '.join(failed)}"
    return ConformanceReport.of(backend, asyncio.run(_capabilities(harness)), reports)


def _outcome(report: CaseReport) -> str:
    return {"passed": PASSED, "skipped": report.reason, "failed": f"failed: {report.reason}"}[report.outcome]


async def _capabilities(harness: Harness) -> Capabilities:
    async with CaseContext(harness, "report") as context:
        return await context.capabilities()
