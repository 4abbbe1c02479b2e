"""What a client learns of a task, in Azolla's shape."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from tranship import envelope
from tranship.errors import InvalidArgumentsError
from tranship.errors import TaskError as CoreTaskError
from tranship.errors import TaskValidationError as CoreValidationError

__all__ = ["ErrorInfo", "TaskResult", "TaskStatus", "result_of"]

T = TypeVar("T")

_CODES: Final[Mapping[str, str]] = {
    "TASK_FAILED": CoreTaskError.code,
    InvalidArgumentsError.code: CoreValidationError.code,
}
"""Codes that the core gives, and what Azolla calls them: of an exception that was wrapped, of arguments."""
_TYPES: Final[Mapping[str, str]] = {InvalidArgumentsError.__name__: CoreValidationError.__name__}


class TaskStatus(enum.StrEnum):
    """Where a task is."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why a task failed.

    Attributes:
        message: for people.
        error_type: what was raised, without its module; or what the ``TaskError`` says.
        retriable: whether another attempt might have succeeded.
        data: the code, as ``"code"``, and what the ``TaskError`` was given besides.
    """

    message: str
    error_type: str
    retriable: bool | None = None
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TaskResult(Generic[T]):
    """How a task ended: with a value when ``success``, else with an error."""

    task_id: str
    success: bool
    value: T | None = None
    error: ErrorInfo | None = None


def result_of(found: envelope.TaskResult) -> TaskResult[Any]:
    """Return the core's terminal result in Azolla's shape."""
    if found.success:
        return TaskResult(found.id, success=True, value=found.value)
    return TaskResult(found.id, success=False, error=_error(found))


def _error(found: envelope.TaskResult) -> ErrorInfo:
    info = found.error
    if info is None:  # cancelled, or too late
        raised = found.exception()
        return ErrorInfo(str(raised), type(raised).__name__, raised.retryable, {"code": raised.code})
    return ErrorInfo(
        info.message,
        _TYPES.get(info.error_type, info.error_type),
        info.retryable,
        {"code": _CODES.get(info.code, info.code), **info.details},
    )
