"""Status dicts: what a handler returns becomes a result, and a result is told as a status dict again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from tranship.envelope import TaskResult
from tranship.error_codes import CONTRACT_VIOLATION_ERROR, TRANSIENT_ERROR
from tranship.errors import InvalidOptionError, TaskError
from tranship.outcomes import Outcome, Snooze

__all__ = ["outcome_of", "told"]

log = logging.getLogger("tranship.compat.avtomatika")

SUCCESS: Final = "success"
FAILURE: Final = "failure"
_SHAPED: Final = frozenset({"status", "data", "error"})
_OF_ERRORS: Final = ("error_type", "retryable")
"""What an error may say beside its code and its message, and :class:`TaskError` takes as its own."""


def outcome_of(value: Any) -> Any:
    """Return the outcome that a handler's ``value`` stands for.

    A dict with ``status``, ``data`` or ``error`` is a status dict; everything else is the data of a success.

    Raises:
        TaskError: it says that the task failed, or its status is none.
    """
    if isinstance(value, Outcome | Snooze):
        return value
    if not isinstance(value, Mapping) or not _SHAPED & value.keys():
        return Outcome(SUCCESS, value)
    failed = value.get("error") is not None
    status = value.get("status", FAILURE if failed else SUCCESS)
    if status == FAILURE:
        raise _failure(value.get("error"), value.get("data"))
    try:
        return Outcome(status, value.get("data"))
    except InvalidOptionError as error:
        raise TaskError(f"the handler returned a dict whose {error}", CONTRACT_VIOLATION_ERROR) from None


def _failure(error: Any, data: Any) -> TaskError:
    given = dict(error) if isinstance(error, Mapping) else {"message": "" if error is None else str(error)}
    message = str(given.pop("message", None) or "") or "the handler returned a failure, and no message"
    code = str(given.pop("code", None) or TRANSIENT_ERROR)
    named: dict[str, Any] = {name: given.pop(name) for name in _OF_ERRORS if name in given}
    try:
        failure = TaskError(message, code, **named)
    except InvalidOptionError as wrong:
        raise TaskError(f"the handler returned an error whose {wrong}", CONTRACT_VIOLATION_ERROR) from None
    failure.details = {str(name): one for name, one in given.items()}
    if data is not None:
        failure.details["data"] = data
    return failure


def told(result: TaskResult) -> dict[str, Any]:
    """Return a terminal result as the status dict that an orchestrator would have been sent."""
    if result.success:
        return {"status": result.status or SUCCESS, "data": result.value}
    error = result.exception()
    status = "cancelled" if result.state == "CANCELLED" else FAILURE
    return {"status": status, "error": {"code": error.code, "message": str(error)}}
