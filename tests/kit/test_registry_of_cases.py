"""The list of cases is complete, and the ports' docstrings speak of cases that exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from tranship import driver, ports
from tranship.ports import Capability
from tranship.testing.case import case, cases_of, run_case
from tranship.testing.harness import Harness
from tranship.testing.suites import DRIVER_SUITES, PORT_SUITES
from tranship.testing.suites.facade.suite import FacadeSuite
from tranship.testing.suites.worker.suite import WorkerSuite

CASES = list(cases_of(*PORT_SUITES))


def test_every_case_has_one_suite_and_a_reason():
    assert len(CASES) > 70
    assert len({one.id for one in CASES}) == len(CASES)
    for one in CASES:
        assert one.suite in {suite.__name__ for suite in PORT_SUITES}
        assert one.rationale
        assert "\n" not in one.rationale
        assert (one.level == "core") is (not one.needs), one.id


def test_every_test_method_of_a_suite_is_a_case():
    for suite in PORT_SUITES:
        methods = [name for name, _ in inspect.getmembers(suite, callable) if name.startswith("test_")]
        assert sorted(methods) == sorted(f"test_{one.id}" for one in cases_of(suite))


def test_cases_named_by_the_ports_exist():
    text = "".join(path.read_text() for path in Path(ports.__path__[0]).glob("*.py"))
    named = set(re.findall(r"\[([a-z][a-z0-9_]+(?:,\s+[a-z0-9_]+)*)\]", text))
    ids = {one for names in named for one in re.split(r",\s+", names) if "_" in one}
    assert ids, "the docstrings name no case"
    # The facade's are there twice: blocking, and not.
    there = {one.id.partition("[")[0] for one in cases_of(*PORT_SUITES, FacadeSuite, WorkerSuite)}
    assert ids <= there, sorted(ids - there)


def test_cases_named_by_the_primitives_exist_and_all_are_named():
    text = "".join(path.read_text() for path in Path(driver.__path__[0]).glob("*.py"))
    named = set(re.findall(r"\[((?:queue|table|topic|log)_\w+)\]", text))
    ids = {one.id for one in cases_of(*DRIVER_SUITES)}
    assert named <= ids, sorted(named - ids)
    told_by_traits = {one for one in ids if "fused" in one} | {"queue_take_limits", "queue_keeps_order"}
    assert ids - named <= told_by_traits, sorted(ids - named - told_by_traits)


def test_every_capability_is_exercised():
    exercised = {capability for one in CASES for capability in one.needs}
    assert set(Capability) == exercised


def test_a_case_runs_without_pytest():
    (ping,) = [one for one in CASES if one.id == "ping_answers"]
    report = run_case(ping, Harness("memory://"))
    assert (report.outcome, report.reason) == ("passed", "")
    assert report.seconds > 0


def test_unmet_needs_are_skipped_with_the_capability():
    (durable,) = [one for one in CASES if one.id == "submit_durable_before_return"]
    report = run_case(durable, Harness("memory://"))
    assert report.outcome == "skipped"
    assert report.reason == "capability none: cross-process, durable"


def test_a_case_that_hangs_fails_in_time():
    class Hanging:
        @case("hangs", level="core", rationale="for this test", limit=0.2)
        async def test_hangs(self, context):
            backend = await context.open()
            await backend.consumer(["q"]).receive(1, 3600)

    (hangs,) = cases_of(Hanging)
    report = run_case(hangs, Harness("memory://"))
    assert report.outcome == "failed"
    assert report.reason == "not finished within the case's limit of 0.2 s"


def test_a_task_that_outlives_its_backend_is_a_failure():
    import asyncio

    forgotten = []

    class Leaking:
        @case("leaks", level="core", rationale="for this test")
        async def test_leaks(self, context):
            await context.open()
            forgotten.append(asyncio.create_task(asyncio.Event().wait()))

    (leaks,) = cases_of(Leaking)
    report = run_case(leaks, Harness("memory://"))
    assert report.outcome == "failed"
    assert "still running" in str(report.error)


def test_a_method_must_be_named_after_its_case():
    with pytest.raises(ValueError, match="name it 'test_right'"):

        @case("right", level="core", rationale="for this test")
        async def test_wrong(self, context): ...
