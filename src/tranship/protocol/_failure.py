"""Exceptions in Celery's form: a type, a module and the arguments. Never a class: nothing is looked up or imported."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Final

from tranship import codec
from tranship.envelope import ErrorInfo, TaskState
from tranship.errors import DeadlineExceeded, TaskCancelled, TaskFailed, TaskTimedOut, UnknownTask

__all__ = ["own_error", "read_foreign", "read_own", "revoked_word", "writable", "written"]

_REVOKED: Final = "celery.exceptions.TaskRevokedError"
_CODES: Final[Mapping[str, str]] = {
    "billiard.exceptions.TimeLimitExceeded": TaskTimedOut.code,
    "billiard.exceptions.SoftTimeLimitExceeded": TaskTimedOut.code,
    "billiard.exceptions.WorkerLostError": "WORKER_LOST",
    "celery.exceptions.NotRegistered": UnknownTask.code,
}
_WORDS: Final[Mapping[TaskState, tuple[str, str]]] = {
    TaskState.CANCELLED: ("revoked", TaskCancelled.code),
    TaskState.EXPIRED: ("expired", DeadlineExceeded.code),
}
_ARGS: Final = "args"
"""The detail that keeps the arguments of a foreign exception which are more than its message."""


def written(state: TaskState, error: ErrorInfo | None) -> dict[str, Any] | None:
    """Return the exception map for a state, as Celery writes it."""
    if state in _WORDS:
        same = error is not None and error.type == _REVOKED
        return _map(_REVOKED, _arguments(error) if same and error else [_WORDS[state][0]])
    if error is None:
        return None if state is TaskState.RETRY else _map("builtins.Exception", [f"the task is {state}"])
    return _map(error.type or "builtins.Exception", _arguments(error))


def own_error(error: ErrorInfo, celery: Any) -> dict[str, Any]:
    """Return what our readers need beyond the exception map ``celery``."""
    fields: dict[str, Any] = {"code": error.code, "retryable": error.retryable}
    seen = _read(celery)
    if seen is None or seen[0] != error.type:
        fields["type"] = error.type
    if seen is None or seen[1] != error.message:
        fields["message"] = error.message
    if error.error_type != error.type.rpartition(".")[2]:
        fields["error_type"] = error.error_type
    if error.details:
        fields["details"] = writable(error.details)
    return fields


def read_own(fields: Any, celery: Any, traceback: str | None) -> ErrorInfo | None:
    """Return the error of one of our documents; None: it has none, or not in our form."""
    if not isinstance(fields, dict):
        return None
    kind, message, _ = _read(celery) or ("", "", [])
    details = fields.get("details")
    return ErrorInfo(
        type=_text(fields.get("type"), kind),
        message=_text(fields.get("message"), message),
        code=_text(fields.get("code"), TaskFailed.code),
        retryable=fields.get("retryable") is True,
        details=details if isinstance(details, dict) else {},
        traceback=traceback,
        error_type=_text(fields.get("error_type"), ""),
    )


def read_foreign(state: TaskState, celery: Any, traceback: str | None) -> ErrorInfo | None:
    """Return the error of a document that Celery wrote."""
    seen = _read(celery)
    if seen is None:
        return None
    kind, message, args = seen
    code = _WORDS[state][1] if state in _WORDS else _CODES.get(kind, TaskFailed.code)
    details = {} if args == [message] else {_ARGS: args}
    return ErrorInfo(type=kind, message=message, code=code, details=details, traceback=traceback)


def revoked_word(celery: Any) -> str:
    """Return what a REVOKED document says: ``revoked``, ``expired`` or ``terminated``; empty if nothing."""
    seen = _read(celery)
    return seen[1] if seen else ""


def _read(celery: Any) -> tuple[str, str, list[Any]] | None:
    """Return type, message and arguments of an exception map, or of what stands in its place."""
    if celery is None:
        return None
    if not isinstance(celery, dict):
        return "", _rendered([celery]), [celery]
    name, module, args = (celery.get(key) for key in ("exc_type", "exc_module", "exc_message"))
    kind = ".".join(part for part in (module, name) if isinstance(part, str) and part)
    if not isinstance(args, list):
        args = [] if args is None else [args]
    return kind, _rendered(args), args


def _rendered(args: list[Any]) -> str:
    """Return what ``str()`` of an exception with these arguments says."""
    try:
        return "" if not args else str(args[0]) if len(args) == 1 else str(tuple(args))
    except RecursionError:
        return "an error that cannot be shown"


def _arguments(error: ErrorInfo) -> list[Any]:
    args = error.details.get(_ARGS)
    return args if isinstance(args, list) and _rendered(args) == error.message else [error.message]


def _map(kind: str, args: list[Any]) -> dict[str, Any]:
    module, _, name = kind.rpartition(".")
    return {"exc_type": name, "exc_message": args, "exc_module": module or "builtins"}


def writable(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``details`` with a repr of what cannot be written: reporting a failure must not fail."""
    return {_named(name): value if _can_write(value) else _shown(value) for name, value in details.items()}


def _can_write(value: Any) -> bool:
    try:
        codec.dumps(value)
    except Exception:  # noqa: BLE001 - a model's own code may raise anything
        return False
    return True


def _named(name: Any) -> str:
    return str.encode(name, "utf-8", "backslashreplace").decode() if isinstance(name, str) else _shown(name)


def _shown(value: Any) -> str:
    show = reprlib.Repr()  # stays calm where repr() would raise: deep nesting, a broken __repr__
    show.maxother = show.maxstring = 200
    try:
        return show.repr(value)
    except Exception:  # noqa: BLE001 - a container of the user's own may raise anything
        return f"<{type(value).__qualname__}>"


def _text(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise
