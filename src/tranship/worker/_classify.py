"""From what a handler did to how the delivery ends: one place, one clause each."""

from __future__ import annotations

from typing import Final

from tranship.envelope import Ending, Envelope, ErrorInfo
from tranship.errors import (
    ClaimCheckError,
    DeadlineExceeded,
    InvalidOptionError,
    Reject,
    Retry,
    TaskCancelled,
    TaskTimedOut,
)
from tranship.outcomes import Outcome, Snooze, Suspended
from tranship.retry import RetryPolicy
from tranship.worker._describe import cleaned, describe, message_of
from tranship.worker._groups import may_succeed_later, meant, shared_names
from tranship.worker._record import Run, Stop
from tranship.worker._waits import seconds_of

__all__ = ["EXHAUSTED", "classify", "returned", "stopped"]

EXHAUSTED: Final = "retries-exhausted"
"""The reason of a dead letter whose retry policy ran out of attempts."""


def returned(run: Run) -> None:
    """Decide the outcome of a handler that returned ``run.value``."""
    value = run.value
    if value.__class__ is Outcome:
        run.status, run.value = value.status, value.data
    elif isinstance(value, Snooze):
        run.value = None
        classify(run, value)
        return
    run.end(Ending.SUCCEEDED)


def classify(run: Run, error: BaseException) -> None:
    """Decide the outcome of a handler that raised ``error``."""
    envelope = run.envelope
    assert envelope is not None
    error = meant(error)
    if run.sequel is not None:
        run.sequel.raised = error
    if isinstance(error, TaskCancelled) and run.stopped is Stop.CANCELLED:
        run.end(Ending.CANCELLED)
    elif isinstance(error, Reject):
        reason = _reason(error)
        run.bury(reason, f"the handler rejected it: {reason}", _rejected(error))
    elif isinstance(error, ClaimCheckError):
        # Kept, so that it can be replayed once a worker knows how to fetch it.
        run.bury(error.reason, str(error), describe(error))
    elif isinstance(error, Snooze | Suspended):
        _snooze(run, envelope, error)
    else:
        _retry_or_fail(run, envelope, error)


def stopped(run: Run, why: Stop) -> None:
    """Decide the outcome of a handler that was stopped."""
    envelope = run.envelope
    assert envelope is not None
    if why is Stop.CANCELLED:
        run.end(Ending.CANCELLED)
    elif why is Stop.DEADLINE:
        run.end(Ending.EXPIRED)
    elif why is Stop.TIMEOUT:
        message = f"an attempt of task {envelope.task!r} ran longer than its run_timeout of {run.limit or 0.0:g} s"
        _retry_or_fail(run, envelope, TaskTimedOut(message, limit=run.limit, task_id=envelope.id))
    elif why is Stop.LOST:
        run.end(Ending.LOST)
    else:
        run.end(Ending.RELEASED)


def _snooze(run: Run, envelope: Envelope, snooze: Snooze | Suspended) -> None:
    delay = seconds_of(getattr(snooze, "delay", None))
    if not delay:
        # Of a subclass: ours checks it.
        _retry_or_fail(run, envelope, InvalidOptionError("delay of Snooze is missing; expected seconds above 0"))
        return
    left = run.seconds_left()
    if left is not None and left <= delay:
        message = f"task {envelope.id} was to come again in {delay:g} s, and its deadline is in {max(left, 0.0):.3g} s"
        run.end(Ending.EXPIRED, describe(DeadlineExceeded(message, task_id=envelope.id)))
        return
    run.delay, run.snoozed = delay, True
    run.end(Ending.RETRY)


def _retry_or_fail(run: Run, envelope: Envelope, error: BaseException) -> None:
    info = describe(error)
    policy = envelope.retry or (RetryPolicy() if isinstance(error, Retry) else None)
    if policy is None:
        run.end(Ending.FAILED, info)
        return
    names = shared_names(error)
    retryable = info.retryable and may_succeed_later(error)
    delay = policy.decide(
        envelope.attempt,
        names=names,
        code=info.code,
        retryable=retryable,
        requested_delay=_requested(error),
    )
    if delay is None and policy.applies(names=names, code=info.code, retryable=retryable):
        info = describe(_reason_to_retry(error))
        run.bury(EXHAUSTED, f"attempt {envelope.attempt + 1} of {policy.max_attempts} failed: {info.message}", info)
    elif delay is None:
        run.end(Ending.FAILED, info)
    else:
        _retry(run, info, _asked(error, delay))


def _retry(run: Run, info: ErrorInfo, delay: float) -> None:
    left = run.seconds_left()
    if left is not None and left <= delay:
        # The next attempt would only find the deadline passed: the real cause says more.
        run.end(Ending.FAILED, info)
        return
    run.delay = delay
    run.end(Ending.RETRY, info)


def _reason_to_retry(error: BaseException) -> BaseException:
    """Return what a handler asked for another attempt for: at the end that is what the task has failed of."""
    if not isinstance(error, Retry):
        return error
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__) or error


def _reason(error: Reject) -> str:
    reason = getattr(error, "reason", None)
    return cleaned(reason) if isinstance(reason, str) and reason else message_of(error)


def _rejected(error: Reject) -> ErrorInfo:
    info = describe(error)
    # Its second argument is Celery's: whether it is to be queued again.
    arguments = (_reason(error), False)
    return ErrorInfo(
        type=info.type, message=info.message, code="REJECTED", traceback=info.traceback, arguments=arguments
    )


def _asked(error: BaseException, delay: float) -> float:
    """``Retry(delay)`` means this delay, not at least this delay."""
    asked = seconds_of(getattr(error, "delay", None)) if isinstance(error, Retry) else None
    return delay if asked is None else asked


def _requested(error: BaseException) -> float | None:
    try:
        return seconds_of(getattr(error, "retry_after", None))
    except BaseException:  # noqa: BLE001 - a property of the user's own may raise anything
        return None
