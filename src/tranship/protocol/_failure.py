"""Exceptions in Celery's form: a type, a module and the arguments. Never a class: nothing is looked up or imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tranship.envelope import ErrorInfo, TaskState
from tranship.errors import (
    DeadlineExceeded,
    InvalidArgumentsError,
    ProcessDied,
    Reject,
    Retry,
    TaskCancelled,
    TaskDeadLettered,
    TaskFailed,
    TaskTimedOut,
    UnknownTask,
)
from tranship.protocol._writable import writable, writable_arguments

__all__ = ["TERMINATED", "own_error", "read_foreign", "read_own", "revoked_word", "written"]

TERMINATED: Final = "terminated"
"""The only argument of the error of a task that was cancelled while it ran."""

_REVOKED: Final = "celery.exceptions.TaskRevokedError"
_UNKNOWN: Final = "celery.exceptions.NotRegistered"
_TOO_LONG: Final = "billiard.exceptions.TimeLimitExceeded"
_LOST: Final = "billiard.exceptions.WorkerLostError"
_CODES: Final[Mapping[str, str]] = {
    _TOO_LONG: TaskTimedOut.code,
    "billiard.exceptions.SoftTimeLimitExceeded": TaskTimedOut.code,
    _LOST: "WORKER_LOST",
    _UNKNOWN: UnknownTask.code,
}
_WORDS: Final[Mapping[TaskState, tuple[str, str]]] = {
    TaskState.CANCELLED: ("revoked", TaskCancelled.code),
    TaskState.EXPIRED: ("expired", DeadlineExceeded.code),
}


def _ours(kind: type[Exception]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_GIVEN_UP: Final = _ours(TaskDeadLettered)
_DELIVERY_LIMIT: Final = "DELIVERY_LIMIT"
"""The code of what was delivered too often without an end."""
_CELERYS: Final[Mapping[str, str]] = {
    _ours(UnknownTask): _UNKNOWN,
    _ours(InvalidArgumentsError): "builtins.TypeError",
    _ours(TaskTimedOut): _TOO_LONG,
    _ours(ProcessDied): _LOST,
    _ours(Reject): "celery.exceptions.Reject",
    _ours(Retry): "celery.exceptions.MaxRetriesExceededError",
}
"""What Celery's workers raise where ours have a name of their own: what programs with a Celery client look for."""


def written(state: TaskState, error: ErrorInfo | None) -> dict[str, Any] | None:
    """Return the exception map for a state, as Celery writes it."""
    if state in _WORDS:
        return _map("celery.exceptions", "TaskRevokedError", _revoked(state, error))
    if error is None:
        return None if state is TaskState.RETRY else _map("builtins", "Exception", [f"the task is {state}"])
    if (named := _celerys(error)) is not None:
        module, _, name = named.rpartition(".")
    else:
        module, name = error.module, error.type.removeprefix(f"{error.module}.")
    return _map(module or "builtins", name or "Exception", _arguments(error))


def _celerys(error: ErrorInfo) -> str | None:
    # Of all that is given up, what its workers have died of is an error of Celery's own.
    return _LOST if error.code == _DELIVERY_LIMIT and error.type == _GIVEN_UP else _CELERYS.get(error.type)


def own_error(error: ErrorInfo, celery: Any) -> dict[str, Any]:
    """Return what our readers need beyond the exception map ``celery``."""
    fields: dict[str, Any] = {"code": error.code, "retryable": error.retryable}
    kind, message, args, module = _read(celery) or ("", "", [], "")
    if kind != error.type:
        fields["type"] = error.type
        args, module = [error.message], error.type.rpartition(".")[0]
    if message != error.message:
        fields["message"] = error.message
    if args != (own := _arguments(error)):
        fields["arguments"] = own
    if module != error.module:
        fields["module"] = error.module
    if error.error_type != error.type.rpartition(".")[2]:
        fields["error_type"] = error.error_type
    if error.details:
        fields["details"] = writable(error.details)
    return fields


def read_own(fields: Any, celery: Any, traceback: str | None) -> ErrorInfo | None:
    """Return the error of one of our documents; None: it has none, or not in our form."""
    if not isinstance(fields, dict):
        return None
    kind, message, args, module = _read(celery) or ("", "", [], "")
    message = _text(fields.get("message"), message)
    if isinstance(fields.get("type"), str):
        kind, args, module = fields["type"], [message], ""
    details, own = fields.get("details"), fields.get("arguments")
    return ErrorInfo(
        type=kind,
        message=message,
        code=_text(fields.get("code"), TaskFailed.code),
        retryable=fields.get("retryable") is True,
        details=details if isinstance(details, dict) else {},
        traceback=traceback,
        error_type=_text(fields.get("error_type"), ""),
        arguments=own if isinstance(own, list) else args,
        module=_text(fields.get("module"), module),
    )


def read_foreign(state: TaskState, celery: Any, traceback: str | None) -> ErrorInfo | None:
    """Return the error of a document that Celery wrote."""
    seen = _read(celery)
    if seen is None:
        return None
    kind, message, args, module = seen
    code = _WORDS[state][1] if state in _WORDS else _CODES.get(kind, TaskFailed.code)
    return ErrorInfo(type=kind, message=message, code=code, traceback=traceback, arguments=args, module=module)


def revoked_word(celery: Any) -> str:
    """Return what a REVOKED document says: ``revoked``, ``expired`` or ``terminated``; empty if nothing."""
    seen = _read(celery)
    return seen[1] if seen else ""


def _read(celery: Any) -> tuple[str, str, list[Any], str] | None:
    """Return type, message, arguments and module of an exception map, or of what stands in its place."""
    if celery is None:
        return None
    if not isinstance(celery, dict):
        return "", _rendered([celery]), [celery], ""
    name, found, args = (celery.get(key) for key in ("exc_type", "exc_module", "exc_message"))
    module = _text(found, "")
    kind = ".".join(part for part in (module, _text(name, "")) if part)
    if not isinstance(args, list):
        args = [] if args is None else [args]
    return kind, _rendered(args), args, module


def _rendered(args: list[Any]) -> str:
    """Return what ``str()`` of an exception with these arguments says."""
    try:
        return "" if not args else str(args[0]) if len(args) == 1 else str(tuple(args))
    except RecursionError:
        return "an error that cannot be shown"


def _revoked(state: TaskState, error: ErrorInfo | None) -> list[Any]:
    """Return what Celery's error of a task that was revoked, or has expired, says of it."""
    word = _WORDS[state][0]
    if error is None:
        return [word]
    if error.type == _REVOKED:
        return _arguments(error)
    return [TERMINATED if state is TaskState.CANCELLED and error.arguments == (TERMINATED,) else word]


def _arguments(error: ErrorInfo) -> list[Any]:
    return writable_arguments([error.message] if error.arguments is None else error.arguments)


def _map(module: str, name: str, args: list[Any]) -> dict[str, Any]:
    return {"exc_type": name, "exc_message": args, "exc_module": module}


def _text(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise
