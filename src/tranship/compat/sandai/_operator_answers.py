"""The envelopes in which operators answer, always as a task that succeeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["cancelled", "described", "failed", "late", "succeeded"]

Answer = dict[str, Any]


def succeeded(artifacts: Sequence[Any], results: Any) -> Answer:
    """What the handler brought."""
    return {"status": "success", "artifacts": list(artifacts), "results": results}


def described(doc: str | None, options_schema: Any, results_schema: Any) -> Answer:
    """What the operator does."""
    return {"status": "success", "doc": doc, "options_schema": options_schema, "results_schema": results_schema}


def failed(error_type: str, message: str, details: Mapping[str, Any]) -> Answer:
    """Why there is no result."""
    error = {"error_type": error_type, "error_message": message, "error_details": dict(details)}
    return {"status": "error", "error": error}


def late(deadline: float, now: float, message: str) -> Answer:
    """The deadline had passed."""
    return failed("TaskDeadlineExceededError", message, {"deadline": deadline, "current_time": now})


def cancelled(cancel_key: str | None) -> Answer:
    """Somebody cancelled it."""
    message = "the task was cancelled" + (f" by its key {cancel_key!r}" if cancel_key else "")
    return failed("TaskCancelledError", message, {"cancel_key": cancel_key})
