"""What gRPC's status codes mean to tranship."""

from __future__ import annotations

from typing import Any, Final

import grpc

from tranship.errors import (
    BrokerError,
    BrokerRefused,
    BrokerUnreachable,
    InvalidOptionError,
    MessageTooLarge,
    SubmitUnknown,
    TranshipError,
)

__all__ = ["explained", "submit_error"]

Code = grpc.StatusCode

_SHOWN: Final = 300
"""Characters of what a server says that an error repeats."""
_UNREACHABLE: Final = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED})
_ADVICE: Final = {
    Code.UNAUTHENTICATED: "it wants credentials, of which Azolla's protocol has none: is a proxy between?",
    Code.PERMISSION_DENIED: "it does not let us in, and Azolla's protocol has no credentials: is a proxy between?",
    Code.UNIMPLEMENTED: "it does not know this method of Azolla's protocol: is it an orchestrator, or another server?",
}
"""Codes that are refusals for good, and what to look at."""
_TOO_LARGE: Final = frozenset({Code.RESOURCE_EXHAUSTED, Code.OUT_OF_RANGE})
"""What Python's library, and the one that Azolla is written with, say of a message beyond their limit."""
_WRONG: Final = frozenset({Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.NOT_FOUND, Code.ALREADY_EXISTS})


def explained(error: Any, doing: str) -> TranshipError:
    """Return what tranship calls ``error``, a call that failed.

    Args:
        error: what gRPC raised.
        doing: what was asked of whom, such as ``"azolla://host:52710: WaitForTask"``.
    """
    code = error.code()
    text = f"{doing} ended with {_said(error)}"
    if code in _UNREACHABLE:
        return BrokerUnreachable(text)
    if code in _ADVICE:
        return BrokerRefused(f"{text}; {_ADVICE[code]}")
    return BrokerError(text)


def submit_error(error: Any, doing: str, *, task_id: str, size: int) -> TranshipError:
    """Return the same for a submit: whether the task is there, is not, or nobody knows."""
    code = error.code()
    text = f"{doing} ended with {_said(error)}"
    if code in _ADVICE:
        return explained(error, doing)
    if code in _WRONG:
        return InvalidOptionError(f"{text}; the task was not submitted", task_id=task_id)
    if code in _TOO_LARGE:
        return MessageTooLarge(f"{text}; pass a reference to the data", size=size, task_id=task_id)
    return SubmitUnknown(f"{text}: the task may have been submitted, or not", task_id=task_id)


def _said(error: Any) -> str:
    details = " ".join(str(error.details() or "").split())
    shown = details if len(details) <= _SHOWN else f"{details[:_SHOWN]}..."
    return f"{error.code().name}: {shown}" if shown else str(error.code().name)
