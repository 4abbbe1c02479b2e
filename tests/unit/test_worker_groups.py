"""What a group of exceptions, as TaskGroup and stages raise it, comes to for a task."""

from __future__ import annotations

import pytest

from tranship.envelope import Ending, Envelope, Priority
from tranship.errors import Reject, Retry, TaskCancelled, TaskError
from tranship.ports import Delivery
from tranship.protocol import RawMessage
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.worker._classify import classify
from tranship.worker._record import Run, Stop


def outcome(*errors: BaseException, stopped: Stop | None = None, **policy) -> Run:
    run = Run(Delivery(RawMessage(b"{}", b"[[], {}, {}]"), "q", Priority.NORMAL, None), None)
    retry = RetryPolicy(max_attempts=5, backoff=FixedBackoff(0), **policy)
    run.envelope = Envelope(id="a", task="unit.task", retry=retry)
    run.stopped = stopped
    classify(run, BaseExceptionGroup("several", errors))
    return run


def test_a_group_of_one_is_the_one() -> None:
    run = outcome(ExceptionGroup("inner", [KeyError("deep")]), retry_on=[ConnectionError])
    assert run.outcome is Ending.FAILED
    assert run.error is not None
    assert run.error.type == "builtins.KeyError"


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((ConnectionResetError(), ConnectionRefusedError()), Ending.RETRY),
        ((ConnectionResetError(), ValueError()), Ending.FAILED),
    ],
)
def test_retry_on_has_to_cover_all_of_them(errors, expected) -> None:
    assert outcome(*errors, retry_on=[ConnectionError]).outcome is expected


def test_retry_on_may_name_the_group() -> None:
    assert outcome(ValueError(), KeyError(), retry_on=[ExceptionGroup]).outcome is Ending.RETRY


def test_one_that_is_final_makes_all_final() -> None:
    assert outcome(ValueError(), TaskError("no", retryable=False)).outcome is Ending.FAILED
    assert outcome(ValueError(), TaskError("no", retryable=True)).outcome is Ending.RETRY


def test_what_the_handler_says_is_heard_among_what_it_suffers() -> None:
    assert outcome(ValueError(), Reject("unwanted")).reason == "unwanted"
    cancelled = outcome(ValueError(), Reject("unwanted"), TaskCancelled("stop"), stopped=Stop.CANCELLED)
    assert cancelled.outcome is Ending.CANCELLED
    later = outcome(ValueError(), Retry(delay=7), retry_on=[ConnectionError])
    assert (later.outcome, later.delay) == (Ending.RETRY, 7)
