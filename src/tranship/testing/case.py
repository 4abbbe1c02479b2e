"""Conformance cases: an async body, made into a plain test that pytest or anybody else can run.

::

    class SubmitterSuite:
        @case("submit_after_close", level="core", rationale="a closed backend must say so, not hang")
        async def test_submit_after_close(self, context: CaseContext) -> None: ...

A case works with a :class:`~tranship.testing.context.CaseContext` made from the suite's ``harness``. It runs on a
loop of its own under a hard time limit, so no plugin for async tests is needed.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from tranship.ports import Capability
from tranship.testing.context import CaseContext, CaseSkipped
from tranship.testing.harness import Harness

__all__ = ["CLEAN_UP", "LIMIT", "Case", "CaseLevel", "CaseReport", "case", "cases_of", "run_case", "run_cases"]

CaseLevel = Literal["core", "capability", "stress"]
Body = Callable[[Any, CaseContext], Awaitable[None]]

LIMIT: Final = 100.0
"""Seconds for a case that says nothing else. It ends what hangs, and is no measure of speed: on a busy machine a case
takes ten times as long as on an idle one."""

CLEAN_UP: Final = 60.0
"""Seconds that closing may take after a case, whatever became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One promise and the code that checks it."""

    id: str
    level: CaseLevel
    """``core``: every backend. ``capability``: who declares ``needs``. ``stress``: long, run on demand."""
    needs: frozenset[Capability]
    """Capabilities without which the case is skipped."""
    rationale: str
    """One line: what would go wrong for whom."""
    body: Body
    limit: float
    """Seconds after which the case has failed."""
    suite: str = ""
    """The class it was found in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReport:
    """How one case ended."""

    case: Case
    outcome: Literal["passed", "failed", "skipped"]
    reason: str = ""
    """Why it was skipped, or what failed, in one line."""
    error: BaseException | None = None
    seconds: float = 0.0


class CaseTest(Protocol):
    """What the decorator makes: a test method with its case attached."""

    case: Case

    def __call__(self, suite: Any, harness: Harness) -> None:
        """Run the case; pytest calls it with the author's fixture."""


def case(
    case_id: str,
    *,
    level: CaseLevel,
    rationale: str,
    needs: Collection[Capability] = (),
    limit: float = LIMIT,
) -> Callable[[Body], CaseTest]:
    """Make the decorated async method ``test_<case_id>(self, context)`` a conformance case.

    Args:
        case_id: the name under which docstrings of ports and reports speak of it.
        level: how much a backend must support to be asked for it.
        rationale: one line.
        needs: skip it where one of these capabilities is none.
        limit: seconds; afterwards the case is cancelled and has failed.
    """

    def decorate(body: Body) -> CaseTest:
        described = Case(id=case_id, level=level, needs=frozenset(needs), rationale=rationale, body=body, limit=limit)
        return _as_test(described)

    return decorate


def _as_test(described: Case) -> CaseTest:
    expected, given = f"test_{described.id}", getattr(described.body, "__name__", "")
    if given != expected:
        raise ValueError(f"the method of case {described.id!r} is named {given!r}; name it {expected!r}")

    # No functools.wraps: pytest would look through it and ask for a fixture named context.
    def test(self: Any, harness: Harness) -> None:
        try:
            asyncio.run(_run_wanted(described, self, harness))
        except CaseSkipped as skipped:
            import pytest

            # Raised from it, so that the plugin can tell what a harness lacks at the end.
            raise pytest.skip.Exception(str(skipped)) from skipped

    test.__name__ = expected
    test.__qualname__ = getattr(described.body, "__qualname__", expected)
    test.__module__ = described.body.__module__
    test.__doc__ = described.rationale
    test.case = described  # type: ignore[attr-defined]  # a function with an attribute
    return test  # type: ignore[return-value]  # the same


async def _run_wanted(described: Case, suite: Any, harness: Harness) -> None:
    if described.level == "stress" and not harness.stress:
        raise CaseSkipped("a stress case; set stress = True on the harness")
    await _run(described, suite, harness)


async def _run(described: Case, suite: Any, harness: Harness) -> None:
    context = CaseContext(harness, described.id).begin()
    failure = await _failure(_body(described, suite, context), described.limit, "the case's limit")
    unclean = await _failure(context.aclose(check=failure is None), CLEAN_UP, "the limit of its clean-up")
    if failure is not None and unclean is not None:
        failure.add_note(f"and its clean-up failed: {_reason(unclean)}")
    if error := failure or unclean:
        raise error


async def _body(described: Case, suite: Any, context: CaseContext) -> None:
    await context.need(described.needs)
    await described.body(suite, context)


async def _failure(work: Awaitable[None], seconds: float, limit: str) -> Exception | None:
    """Do ``work`` and return what it raised; None: nothing.

    What has failed by itself before the time was over has failed of that, however long it took to come out.
    """
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            await work
    except TimeoutError as error:
        if not bound.expired():
            return error
        late = AssertionError(f"not finished within {limit} of {seconds:g} s{_while_handling(error)}")
        late.__cause__ = error
        own = next((one for one in _causes(error) if isinstance(one, AssertionError)), late)
        if own is not late:
            own.add_note(str(late))
        return own
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        return error
    return None


def _while_handling(error: BaseException) -> str:
    for one in _causes(error):
        if not isinstance(one, TimeoutError | asyncio.CancelledError):
            return f", while handling {_reason(one)}"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def cases_of(*suites: type) -> Iterator[Case]:
    """Yield the cases of suite classes, in the order in which they are written."""
    seen: set[str] = set()
    for suite in suites:
        for owner in reversed(suite.__mro__):
            for value in vars(owner).values():
                found = getattr(value, "case", None)
                if isinstance(found, Case) and found.id not in seen:
                    seen.add(found.id)
                    yield _in_suite(found, suite)


def _in_suite(found: Case, suite: type) -> Case:
    return Case(
        id=found.id,
        level=found.level,
        needs=found.needs,
        rationale=found.rationale,
        body=found.body,
        limit=found.limit,
        suite=suite.__name__,
    )


def run_case(described: Case, harness: Harness) -> CaseReport:
    """Run one case without pytest and say how it ended."""
    started = time.monotonic()

    def report(outcome: Literal["passed", "failed", "skipped"], error: BaseException | None = None) -> CaseReport:
        return CaseReport(
            case=described,
            outcome=outcome,
            reason=_reason(error) if error else "",
            error=error,
            seconds=time.monotonic() - started,
        )

    try:
        asyncio.run(_run(described, object(), harness))
    except CaseSkipped as skipped:
        return report("skipped", skipped)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the finding
        return report("failed", error)
    return report("passed")


def _reason(error: BaseException) -> str:
    """Return one line: what the error says, or else the line of the case that raised it."""
    if said := str(error).partition("\n")[0]:
        return said if isinstance(error, AssertionError | CaseSkipped) else f"{type(error).__name__}: {said}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}"


def run_cases(
    suites: Collection[type], harness: Harness, *, levels: Collection[CaseLevel] = ("core", "capability")
) -> Iterator[CaseReport]:
    """Run the cases of ``suites`` one after the other and yield each report as it is made."""
    for described in cases_of(*suites):
        if described.level in levels:
            yield run_case(described, harness)
