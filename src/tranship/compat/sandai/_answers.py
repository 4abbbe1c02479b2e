"""What came back, as a value or as an error: by type and by the operator's own words, never by a message's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tranship.compat.sandai._shapes import OperatorDescription, OperatorTaskResult
from tranship.compat.sandai.exceptions import (
    InvalidResultFormatError,
    InvalidTaskStatusError,
    OperatorError,
    TaskCancelledError,
    TaskDeadlineExceededError,
    TaskExecutionError,
    TaskTimeoutError,
)
from tranship.envelope import ErrorInfo, TaskResult, TaskState
from tranship.errors import MalformedMessage, TranshipError

if TYPE_CHECKING:
    from tranship.waiting import Found

__all__ = ["celery_state", "description", "failure", "probe_answer", "task_result", "value_of"]

_UNKNOWN: Final = "Unknown error"
_CELERY: Final[Mapping[TaskState, str]] = {
    TaskState.CANCELLED: "REVOKED",
    TaskState.EXPIRED: "REVOKED",
    TaskState.DEAD_LETTERED: "FAILURE",
    TaskState.SCHEDULED: "PENDING",
    TaskState.UNKNOWN: "PENDING",
}


def celery_state(state: TaskState) -> str:
    """The state by the name that Celery has for it."""
    return _CELERY.get(state, state.value)


def value_of(task_id: str, found: Found | None, timeout: float) -> Any:
    """Return what the operator returned.

    Args:
        task_id: whose it is.
        found: the task's end; None: it had not ended.
        timeout: how long that was waited for, in seconds.

    Raises:
        OperatorError: nothing came, or the task failed.
        TranshipError: the store failed.
    """
    if found is None:
        raise TaskTimeoutError(task_id, timeout)
    if isinstance(found, MalformedMessage):
        raise InvalidResultFormatError(task_id, None) from found
    if isinstance(found, TranshipError):
        raise found
    if found.success:
        return found.value
    raise failure(found)


def failure(result: TaskResult) -> OperatorError:
    """The error that stands for a task without a success."""
    error = result.error or ErrorInfo(type="", message=f"the task is {result.state}")
    if result.state is TaskState.CANCELLED:
        return TaskCancelledError(result.id, "")
    if result.state is TaskState.EXPIRED:
        return TaskDeadlineExceededError(result.id, 0, result.finished_at or 0)
    if not result.state.terminal:
        return InvalidTaskStatusError(result.id, result.state)
    name = error.type.rpartition(".")[2]
    details = {"exception_type": name, **error.details}
    return TaskExecutionError(result.id, error.message, details, error_type=name, traceback=error.traceback)


def task_result(task_id: str, value: Any) -> OperatorTaskResult:
    """Read the envelope of a processed task.

    Raises:
        OperatorError: it says that the task failed, or is no envelope.
    """
    envelope = _successful(task_id, value)
    return OperatorTaskResult(envelope.get("artifacts", []), envelope.get("results", {}))


def description(task_id: str, value: Any) -> OperatorDescription:
    """Read the envelope of a description.

    Raises:
        OperatorError: as :func:`task_result`.
    """
    envelope = _successful(task_id, value)
    return OperatorDescription(*(envelope.get(name) for name in ("doc", "options_schema", "results_schema")))


def probe_answer(value: Any) -> tuple[bool, str | None]:
    """Whether it is an operator's envelope at all, and what is wrong with it or reported in it."""
    if not isinstance(value, Mapping):
        return False, f"the answer is {type(value).__name__}; expected a map with a status"
    status = value.get("status")
    if status == "error":
        return True, _said(value.get("error"))[1]
    return status == "success", None if status == "success" else f"the answer has the status {status!r}"


def _successful(task_id: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidResultFormatError(task_id, value)
    status = value.get("status", "unknown")
    if status == "error":
        raise _reported(task_id, value.get("error"))
    if status != "success":
        raise InvalidTaskStatusError(task_id, str(status))
    return value


def _reported(task_id: str, error: Any) -> OperatorError:
    kind, message, details = _said(error)
    if kind == "TaskDeadlineExceededError":
        return TaskDeadlineExceededError(task_id, details.get("deadline", 0), details.get("current_time", 0))
    if kind == "TaskCancelledError":
        return TaskCancelledError(task_id, str(details.get("cancel_key", "")))
    return TaskExecutionError(task_id, message, details, error_type=kind)


def _said(error: Any) -> tuple[str, str, dict[str, Any]]:
    """Type, message and details of an error envelope, whatever stands there."""
    if not isinstance(error, Mapping):
        return "", str(error) if error else _UNKNOWN, {}
    details = error.get("error_details", {})
    if not isinstance(details, Mapping):
        details = {"raw_error_details": details}
    return str(error.get("error_type", "")), str(error.get("error_message", _UNKNOWN)), dict(details)
