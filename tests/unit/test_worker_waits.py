"""How long a failure asks to be left alone, in whatever form it says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tranship.envelope import Ending, Envelope
from tranship.errors import InvalidOptionError, Retry, TaskError
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.worker._classify import classify
from tranship.worker._record import Run
from tranship.worker._waits import seconds_of


def soon(hours: int = 0) -> datetime:
    """Five minutes from now: when the test runs, not when it was collected."""
    return datetime.now(UTC) + timedelta(seconds=300, hours=hours)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (2, 2),
        (0.5, 0.5),
        (-1, 0),
        ("2", 2),
        (b"2", 2),
        (" 2.5 ", 2.5),
        (timedelta(minutes=2), 120),
        (timedelta(seconds=-2), 0),
        (soon, 300),
        (lambda: soon().replace(tzinfo=None), 300),
        (lambda: format_datetime(soon(), usegmt=True), 300),
        (lambda: format_datetime(soon(-1), usegmt=True), 0),
    ],
    ids=range(12),
)
def test_seconds_text_timedelta_and_date_say_how_long(said, meant):
    assert seconds_of(said() if callable(said) else said) == pytest.approx(meant, abs=30 if meant == 300 else 0)


class Odd:
    def __float__(self) -> float:
        raise RuntimeError("no number")


@pytest.mark.parametrize(
    "said", [None, True, "soon", "", b"\xff", float("nan"), float("inf"), "inf", 10**400, Odd(), [2]]
)
def test_what_says_nothing_is_ignored(said):
    assert seconds_of(said) is None


class Busy(Exception):
    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


@pytest.mark.parametrize("said", [2, "2", timedelta(seconds=2)])
def test_a_retry_comes_no_sooner_than_the_failure_asks(said):
    for error, least in ((Busy(said), 2.0), (Retry(said), 2.0), (Busy("x"), 0.0), (Retry("x"), 0.0)):
        run = Run(None, None)
        run.envelope = Envelope(id="1", task="t", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.1)))
        classify(run, error)
        assert run.outcome is Ending.RETRY
        assert run.delay == (least or 0.1)


def test_the_code_given_under_either_name_is_the_code():
    given = TaskError("no", error_code="GIVEN", shelf=7)
    assert (given.code, given.details) == ("GIVEN", {"shelf": 7})
    assert TaskError("no", code="GIVEN").code == "GIVEN"
    assert TaskError("no").code == "TASK_ERROR"
    assert TaskError("no", code="GIVEN", error_code="GIVEN").code == "GIVEN"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"retryable": "no"}, "retryable is 'no'; expected True, False or None"),
        ({"code": "A", "error_code": "B"}, "code is 'A' and error_code 'B'; give one"),
    ],
)
def test_a_task_error_that_makes_no_sense_is_refused(given, message):
    with pytest.raises(InvalidOptionError) as caught:
        TaskError("no", **given)
    assert str(caught.value) == message
