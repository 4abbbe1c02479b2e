"""Every planted fault is caught by the case that is there for it, and the sound backend passes that case."""

from __future__ import annotations

import pytest

from kit.faults import MORE, TEN, WORKER_MEMORY, Fault, FaultyHarness
from tranship.testing.case import Case, CaseReport, cases_of, run_case
from tranship.testing.suites import PORT_SUITES

CASES = {case.id: case for case in cases_of(*PORT_SUITES)}


@pytest.fixture(autouse=True)
def _workers_are_soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tranship.driver._signal_store.BEAT_KEPT", WORKER_MEMORY)


def judged(case: Case, factory) -> CaseReport:
    return run_case(case, FaultyHarness(factory))


@pytest.mark.parametrize("fault", [*TEN, *MORE], ids=lambda fault: fault.name.replace(" ", "-"))
def test_planted_fault_is_caught(fault: Fault, note_caught) -> None:
    for name in (fault.caught_by, *fault.also):
        report = judged(CASES[name], fault.backend)
        assert report.outcome == "failed", f"{name} did not notice: {fault.name}"
        # A fault must show as a broken promise, not as an accident inside the fault itself.
        assert isinstance(report.error, AssertionError), repr(report.error)
        if name == fault.caught_by:
            note_caught(f"{fault.name:<28} {name:<32} {report.reason[:90]}")


SOUND = {name: fault.sound for fault in (*TEN, *MORE) for name in (fault.caught_by, *fault.also)}


@pytest.mark.parametrize("name", sorted(SOUND))
def test_sound_backend_passes(name: str) -> None:
    report = judged(CASES[name], SOUND[name])
    assert report.outcome == "passed", report.reason


def test_ten_faults_are_ten_cases() -> None:
    assert len({fault.caught_by for fault in TEN}) == 10
