"""Every fault that is planted in a primitive is caught by the case that is there for it; the sound ones pass."""

from __future__ import annotations

import pytest

from driver.rows_driver import RowsHarness
from kit.primitive_faults import FAULTS, PrimitiveFault
from tranship.testing.case import cases_of, run_case
from tranship.testing.suites import DRIVER_SUITES, PORT_SUITES

CASES = {case.id: case for case in cases_of(*DRIVER_SUITES, *PORT_SUITES)}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_planted_fault_is_caught(fault: PrimitiveFault, note_caught) -> None:
    report = run_case(CASES[fault.caught_by], fault.harness())
    assert report.outcome == "failed", f"{fault.caught_by} did not notice: {fault.name}"
    # A fault must show as a broken promise, not as an accident inside the fault itself.
    assert isinstance(report.error, AssertionError), repr(report.error)
    note_caught(f"{fault.name:<28} {fault.caught_by:<32} {report.reason[:90]}")


@pytest.mark.parametrize("name", sorted({fault.caught_by for fault in FAULTS}))
def test_sound_driver_passes(name: str) -> None:
    able = dict.fromkeys(("fuses", "waits", "posts", "tells", "log", "peeks", "recalls", "reads"), True)
    report = run_case(CASES[name], RowsHarness(**able))
    assert report.outcome == "passed", report.reason
