"""How a task ended, in an orchestrator's words: a status, data, an error with a code that decides what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tranship.envelope import ErrorInfo, TaskState
from tranship.error_codes import (
    FINAL_CODES,
    INVALID_INPUT_ERROR,
    PERMANENT_ERROR,
    RESOURCE_EXHAUSTED_ERROR,
    TIMEOUT_ERROR,
    TRANSIENT_ERROR,
)
from tranship.errors import MalformedMessage, UnknownTask
from tranship.ports import Settlement, Verdict
from tranship.protocol import decode_result

__all__ = ["GIVEN_BACK", "answer_of", "failure", "is_final", "unreadable"]

Answer = Mapping[str, Any]

CODES: Final = FINAL_CODES | {
    "DEPENDENCY_MISSING_ERROR",
    "INTERNAL_ERROR",
    RESOURCE_EXHAUSTED_ERROR,
    TIMEOUT_ERROR,
    TRANSIENT_ERROR,
}
_ELSEWHERE: Final = (
    "the result went to another store, where no orchestrator reads it: start the worker without result_url, and with "
    "no brokers of other kinds beside it"
)


def failure(code: str, message: str, details: Mapping[str, Any] | None = None) -> Answer:
    """Return the answer of a task that has failed."""
    error: dict[str, Any] = {"code": code, "message": message}
    return {"status": "failure", "error": {**error, "details": details} if details else error}


GIVEN_BACK: Final = failure(TRANSIENT_ERROR, "the worker has stopped, and gives the task back")
"""Nobody has begun with it: the orchestrator gives it to somebody else."""


def unreadable(error: MalformedMessage) -> Answer:
    """Return the answer to a task that cannot be read."""
    return failure(INVALID_INPUT_ERROR, str(error))


def is_final(answer: Answer) -> bool:
    """Whether it is the last word of a task, after which the orchestrator does not have it tried again."""
    return answer["status"] != "failure" or answer["error"]["code"] in FINAL_CODES


def answer_of(settlement: Settlement) -> Answer:
    """Return how the worker has ended a task."""
    if settlement.result is None:
        text = f"{settlement.reason}: {settlement.detail}" if settlement.verdict is Verdict.REJECT else _ELSEWHERE
        return failure(PERMANENT_ERROR, text)
    found = decode_result(settlement.result.document)
    if found.state is TaskState.SUCCESS:
        return {"status": found.status or "success", "data": _data(found.value)}
    if found.state is TaskState.CANCELLED:
        return {"status": "cancelled"}
    error = found.error or ErrorInfo(type="", message=f"the task is {found.state}")
    if found.state is TaskState.EXPIRED:
        return failure(TIMEOUT_ERROR, error.message)
    return failure(_code(error, settlement), error.message, _details(error))


def _data(value: Any) -> Any:
    """Return a value as jobs keep it: as names with values, which the next steps of the job are given."""
    return value if value is None or isinstance(value, Mapping) else {"result": value}


def _code(error: ErrorInfo, settlement: Settlement) -> str:
    if error.code in CODES:
        return error.code
    if settlement.reason == UnknownTask.reason:
        # Another worker may have it: orchestrators give an idle worker tasks of others, too.
        return TRANSIENT_ERROR
    if settlement.reason == MalformedMessage.reason:
        return INVALID_INPUT_ERROR
    return TRANSIENT_ERROR if error.retryable else PERMANENT_ERROR


def _details(error: ErrorInfo) -> dict[str, Any]:
    told = {"type": error.type, "code": error.code, "traceback": error.traceback, **error.details}
    return {name: value for name, value in told.items() if value}
