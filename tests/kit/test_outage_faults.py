"""Every flaw in how an outage is dealt with is caught by its case, and a sound backend passes that case."""

from __future__ import annotations

import pytest

from kit.wire import FLAWS, Flaw, WiredHarness
from tranship.testing.case import cases_of, run_case
from tranship.testing.suites import PORT_SUITES
from tranship.testing.suites.ports.outage import OutageCases
from tranship.testing.suites.ports.silence import SilenceCases

CASES = {case.id: case for case in cases_of(*PORT_SUITES)}


@pytest.mark.parametrize("flaw", FLAWS, ids=lambda flaw: f"{flaw.name}-{flaw.caught_by}".replace(" ", "-"))
def test_flaw_is_caught(flaw: Flaw, note_caught) -> None:
    report = run_case(CASES[flaw.caught_by], WiredHarness(flaw.name))
    assert report.outcome == "failed", f"{flaw.caught_by} did not notice: {flaw.name}"
    assert isinstance(report.error, AssertionError), repr(report.error)
    note_caught(f"{flaw.name:<34} {flaw.caught_by:<30} {report.reason[:90]}")


@pytest.mark.parametrize("name", sorted({flaw.caught_by for flaw in FLAWS}))
def test_sound_backend_passes(name: str) -> None:
    report = run_case(CASES[name], WiredHarness())
    assert report.outcome == "passed", report.reason


def test_every_case_about_outages_has_a_flaw() -> None:
    cases = {case.id for case in cases_of(OutageCases, SilenceCases)}
    # A frozen server differs from a black hole only in who is to blame.
    assert cases - {flaw.caught_by for flaw in FLAWS} == {"half_open_connection"}
