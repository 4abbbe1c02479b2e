"""What is told of a case that fails, hangs, or cannot be run: its own reason, within bounds."""

from __future__ import annotations

import asyncio

import pytest

from tranship.errors import BrokerUnreachable
from tranship.testing import case as cases
from tranship.testing.case import case, cases_of, run_case
from tranship.testing.context import CaseContext, HarnessLacks
from tranship.testing.facade_context import worker_case
from tranship.testing.harness import Harness
from tranship.testing.suites.facade.submit import echo


def report_of(suite: type, harness: Harness | None = None) -> cases.CaseReport:
    (described,) = cases_of(suite)
    return run_case(described, harness or Harness("memory://"))


def test_what_the_body_found_is_told_although_it_never_came_out() -> None:
    class Stuck:
        @case("stuck", level="core", rationale="for this test", limit=0.2)
        async def test_stuck(self, context: CaseContext) -> None:
            try:
                raise AssertionError("one of five was lost")
            finally:
                await asyncio.Event().wait()

    report = report_of(Stuck)
    assert report.reason == "one of five was lost"
    assert report.error is not None
    assert report.error.__notes__ == [
        "not finished within the case's limit of 0.2 s, while handling one of five was lost"
    ]


def test_what_was_tried_again_until_the_end_is_told() -> None:
    class Again:
        @case("again", level="core", rationale="for this test", limit=0.2)
        async def test_again(self, context: CaseContext) -> None:
            try:
                raise BrokerUnreachable("nobody there")
            except BrokerUnreachable:
                await asyncio.Event().wait()

    said = "not finished within the case's limit of 0.2 s, while handling BrokerUnreachable: nobody there"
    assert report_of(Again).reason == said


class StuckClose(Harness):
    """Its backends never finish closing."""

    def make_backend(self, url: str):
        backend = super().make_backend(url)
        backend.aclose = asyncio.Event().wait  # type: ignore[method-assign]
        return backend


@pytest.mark.parametrize("fails", [True, False], ids=["failed", "passed"])
def test_cleaning_up_has_a_bound_of_its_own(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    monkeypatch.setattr(cases, "CLEAN_UP", 0.2)

    class Unclean:
        @case("unclean", level="core", rationale="for this test", limit=30)
        async def test_unclean(self, context: CaseContext) -> None:
            await context.open()
            assert not fails, "the body's own"

    report = report_of(Unclean, StuckClose("memory://"))
    late = "not finished within the limit of its clean-up of 0.2 s"
    assert report.outcome == "failed"
    assert report.reason == ("the body's own" if fails else late)
    if fails:
        assert report.error is not None
        assert report.error.__notes__ == [f"and its clean-up failed: {late}"]


def test_a_worker_that_fails_by_itself_fails_the_case_and_hides_no_error_of_the_body() -> None:
    class Failing:
        @worker_case("failing", level="core", rationale="for this test")
        async def test_failing(self, facade) -> None:
            async def broken() -> None:
                raise LookupError("the worker's own")

            worker = facade.make_worker(echo)
            worker.serve = broken
            await facade.context.wait_for(facade.serve(worker), 20)
            raise AssertionError("the body's own")

    report = report_of(Failing)
    assert report.reason == "the body's own"
    assert report.error is not None
    assert report.error.__notes__ == ["and its clean-up failed: LookupError: the worker's own"]


@pytest.mark.parametrize(("url", "kind"), [("memory://", "CaseSkipped"), ("redis://127.0.0.1:1", "HarnessLacks")])
def test_what_a_harness_lacks_is_told_apart_where_there_is_a_server(url: str, kind: str) -> None:
    class Lacking:
        @case("lacking", level="core", rationale="for this test")
        async def test_lacking(self, context: CaseContext) -> None:
            context.lack("the harness cannot pause the broker")

    report = report_of(Lacking, Harness(url))
    assert report.outcome == "skipped"
    assert type(report.error).__name__ == kind
    assert isinstance(report.error, HarnessLacks) == (kind == "HarnessLacks")


def test_pytest_tells_at_the_end_what_the_harness_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from tranship.testing.case import case
        from tranship.testing.harness import Harness

        class Suite:
            @case("pauses", level="core", rationale="for this test")
            async def test_pauses(self, context):
                context.lack("the harness cannot pause the broker")

            @case("restarts", level="core", rationale="for this test")
            async def test_restarts(self, context):
                context.lack("the harness cannot restart the broker")

            @case("other", level="core", rationale="for this test")
            async def test_other(self, context):
                context.skip("it does not apply")

        class TestMine(Suite):
            @pytest.fixture
            def harness(self):
                return Harness("redis://127.0.0.1:1")

        class TestYours(TestMine): ...
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q")
    result.assert_outcomes(skipped=6)
    result.stdout.fnmatch_lines(
        [
            "*conformance cases left out*",
            "the harness cannot pause the broker: pauses",
            "the harness cannot restart the broker: restarts",
        ]
    )
    result.stdout.no_fnmatch_line("it does not apply: *")
