"""From what a handler did to how the delivery ends: one place, one clause each."""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Mapping
from typing import Any, Final

from tranship.envelope import Envelope, ErrorInfo, Outcome
from tranship.errors import (
    DeadlineExceeded,
    Reject,
    Retry,
    TaskCancelled,
    TaskError,
    TaskTimedOut,
    TranshipError,
)
from tranship.retry import RetryPolicy
from tranship.worker._groups import may_succeed_later, meant, shared_names
from tranship.worker._record import Run, Stop

__all__ = ["EXHAUSTED", "classify", "stopped"]

EXHAUSTED: Final = "retries-exhausted"
"""The reason of a dead letter whose retry policy ran out of attempts."""
_OURS: Final = ("tranship.worker.", "tranship.compat.")
"""Modules between the worker's loop and the handler."""


def classify(run: Run, error: BaseException) -> None:
    """Decide the outcome of a handler that raised ``error``."""
    envelope = run.envelope
    assert envelope is not None
    error = meant(error)
    if isinstance(error, TaskCancelled) and run.stopped is Stop.CANCELLED:
        run.end(Outcome.CANCELLED)
    elif isinstance(error, Reject):
        run.bury(error.reason, f"the handler rejected it: {error.reason}", _rejected(error))
    else:
        _retry_or_fail(run, envelope, error)


def stopped(run: Run, why: Stop) -> None:
    """Decide the outcome of a handler that was stopped."""
    envelope = run.envelope
    assert envelope is not None
    if why is Stop.CANCELLED:
        run.end(Outcome.CANCELLED)
    elif why is Stop.DEADLINE:
        run.end(Outcome.EXPIRED)
    elif why is Stop.TIMEOUT:
        message = f"an attempt of task {envelope.task!r} ran longer than its run_timeout of {run.limit or 0.0:g} s"
        _retry_or_fail(run, envelope, TaskTimedOut(message, task_id=envelope.id))
    elif why is Stop.LOST:
        run.end(Outcome.LOST)
    else:
        run.end(Outcome.RELEASED)


def _retry_or_fail(run: Run, envelope: Envelope, error: BaseException) -> None:
    info = describe(error)
    policy = envelope.retry or (RetryPolicy() if isinstance(error, Retry) else None)
    if policy is None:
        run.end(Outcome.FAILED, info)
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
        run.bury(EXHAUSTED, f"attempt {envelope.attempt + 1} of {policy.max_attempts} failed: {info.message}", info)
    elif delay is None:
        run.end(Outcome.FAILED, info)
    else:
        _retry(run, info, _asked(error, delay))


def _retry(run: Run, info: ErrorInfo, delay: float) -> None:
    left = run.seconds_left()
    if left is not None and left <= delay:
        # The next attempt would only find the deadline passed: the real cause says more.
        run.end(Outcome.FAILED, info)
        return
    run.delay = delay
    run.end(Outcome.RETRY, info)


def _rejected(error: Reject) -> ErrorInfo:
    info = describe(error)
    return ErrorInfo(type=info.type, message=info.message, code="REJECTED", traceback=info.traceback)


def _asked(error: BaseException, delay: float) -> float:
    """``Retry(delay)`` means this delay, not at least this delay."""
    return max(0.0, error.delay) if isinstance(error, Retry) and error.delay is not None else delay


def _requested(error: BaseException) -> float | None:
    try:
        return getattr(error, "retry_after", None)
    except Exception:  # noqa: BLE001 - a property of the user's own may raise anything
        return None


def describe(error: BaseException) -> ErrorInfo:
    """Put ``error`` into the form that crosses the wire.

    A TaskError keeps its code, its verdict and its details; any other exception is retryable, with the class's
    qualified name as its type.
    """
    code, retryable, details = _facts(error)
    return ErrorInfo(
        type=f"{type(error).__module__}.{type(error).__qualname__}",
        message=_message(error),
        code=code,
        retryable=retryable,
        details=details,
        traceback=_traceback(error),
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as why:  # noqa: BLE001 - a __str__ of the user's own may raise anything
        return f"{type(error).__qualname__}, whose text cannot be had: its __str__ raised {type(why).__name__}"


def _traceback(error: BaseException) -> str:
    """The traceback as text, without our own frames above the handler's."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        frames = frames.tb_next
    return "".join(tracebacks.format_exception(type(error), error, frames))


def _facts(error: BaseException) -> tuple[str, bool, Mapping[str, Any]]:
    if isinstance(error, TaskError):
        return error.code, error.retryable, error.details
    if isinstance(error, DeadlineExceeded | TaskTimedOut):
        return error.code, error.retryable, {}
    if isinstance(error, TranshipError):
        # A tranship error that a handler let through: its own class says what it is.
        return error.code, True, {}
    return "TASK_FAILED", True, {}
