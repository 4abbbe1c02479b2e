"""How a task ended: in the protocol's messages, and in tranship's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tranship import codec
from tranship.envelope import ErrorInfo, TaskResult, TaskState
from tranship.errors import InvalidArgumentsError, MalformedMessage, TaskValidationError
from tranship_azolla import wire_pb2 as wire

__all__ = ["result_message", "result_read"]

_UNTYPED: Final = "TaskError"
_FAILED: Final = "TASK_FAILED"
_CODES: Final = {_FAILED: "TASK_ERROR", InvalidArgumentsError.code: TaskValidationError.code}
"""Codes that the core gives, and what Azolla calls them: of an exception that was wrapped, of arguments."""
_TYPES: Final = {InvalidArgumentsError.__name__: TaskValidationError.__name__}
_CODE: Final = "code"
"""The key, among an error's data, of its code."""


def result_message(result: TaskResult) -> Any:
    """Return the message for a terminal result.

    Raises:
        EncodeError: a value that JSON cannot hold.
    """
    if result.success:
        value = wire.AnyValue(json_value=codec.dumps(result.value, name="result").decode())
        return wire.TaskResult(task_id=result.id, success=wire.SuccessResult(result=value))
    error = result.error or _of_state(result)
    data = {_CODE: _CODES.get(error.code, error.code), **error.details}
    return wire.TaskResult(
        task_id=result.id,
        error=wire.ErrorResult(
            type=_TYPES.get(error.error_type, error.error_type) or _UNTYPED,
            message=error.message,
            data=codec.dumps(data, name="details").decode(),
            retriable=error.retryable,
        ),
    )


def result_read(task_id: str, answer: Any) -> TaskResult:
    """Return what ``answer``, a message with a ``result_type``, says of a task.

    Raises:
        MalformedMessage: it says nothing, or a value that cannot be read.
    """
    kind = answer.WhichOneof("result_type")
    if kind == "success":
        return TaskResult(id=task_id, state=TaskState.SUCCESS, value=_value(task_id, answer.success.result))
    if kind == "error":
        return TaskResult(id=task_id, state=TaskState.FAILURE, error=_error(answer.error))
    raise MalformedMessage(
        f"task {task_id} has ended, and the orchestrator does not say how: it answers neither a result nor an error",
        task_id=task_id,
    )


def _value(task_id: str, value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind != "json_value":
        return getattr(value, kind)
    try:
        return codec.loads(value.json_value, codec.JSON)
    except MalformedMessage as error:
        raise MalformedMessage(f"the result of task {task_id} cannot be read: {error}", task_id=task_id) from error


def _error(error: Any) -> ErrorInfo:
    data = _data(error.data)
    code = data.pop(_CODE, None)
    kind = error.type or _UNTYPED
    return ErrorInfo(
        type=kind,
        message=error.message,
        code=code if isinstance(code, str) else _FAILED,
        retryable=error.retriable,
        details=data,
        error_type=kind,
    )


def _data(text: str) -> dict[str, Any]:
    """Return the data of an error; what is no object is there all the same, as ``"data"``."""
    if not text:
        return {}
    try:
        found = codec.loads(text, codec.JSON)
    except MalformedMessage:
        found = text
    return dict(found) if isinstance(found, Mapping) else {"data": found}


def _of_state(result: TaskResult) -> ErrorInfo:
    """Return the error of a task that failed without one: it was cancelled, or too late."""
    raised = result.exception()
    kind = type(raised)
    return ErrorInfo(
        type=f"{kind.__module__}.{kind.__name__}", message=str(raised), code=raised.code, retryable=raised.retryable
    )
