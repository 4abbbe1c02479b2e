"""What a client of an operator sends: read, checked, and in the hands of the handler."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship.compat.sandai._operator_errors import PayloadError

__all__ = ["DESCRIBE", "OperatorCall", "asks_for"]

DESCRIBE: Final = "desc"
_PROCESS: Final = "process"
"""What the task is for when a client does not say it."""
_PERSISTENT: Final = "persistent-output"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCall:
    """One call of an operator, as its client sent it. Times are epoch seconds."""

    id: str
    """The task's id."""
    artifacts: Sequence[Any]
    options: Mapping[str, Any]
    """As sent; the handler's own ``options`` are made of them."""
    meta: Mapping[str, Any]
    deadline: float | None = None
    """When the client stops waiting; None: it did not say. Past it a call is not begun any more; what has begun
    goes on."""
    cancel_key: str | None = None
    tracing: Mapping[str, Any]
    """The client's trace context (W3C ``traceparent``, ``tracestate``); empty: it sent none."""

    @property
    def persistent_output(self) -> bool:
        """Whether what the handler uploads is to be kept."""
        return bool(self.meta.get(_PERSISTENT))

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, 0.0 when it has passed; None: there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.time())

    @property
    def is_probe(self) -> bool:
        """Whether it is what ``probe()`` of a client sends."""
        return not self.artifacts and dict(self.options) == {"test": True}

    @classmethod
    def read(cls, task_id: str, payload: Mapping[str, Any]) -> OperatorCall:
        """Read the keyword arguments of a task; those that are not known are ignored.

        Raises:
            PayloadError: one of them is not what it has to be.
        """
        return cls(
            id=task_id,
            artifacts=_list(payload, "artifacts"),
            options=_map(payload, "options"),
            meta=_map(payload, "meta"),
            deadline=_moment(payload, "deadline"),
            cancel_key=_key(payload, "cancel_key"),
            tracing=_map(payload, "_tracing"),
        )


def asks_for(payload: Mapping[str, Any]) -> str:
    """Return what the task is for: ``"process"`` or ``"desc"``.

    Raises:
        PayloadError: it is for something else.
    """
    kind = payload.get("task_type") or _PROCESS
    if kind not in (_PROCESS, DESCRIBE):
        raise _odd("task_type", kind, f"{_PROCESS!r} or {DESCRIBE!r}")
    return str(kind)


def _list(payload: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = payload.get(name)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise _odd(name, value, "a list")
    return value


def _map(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = payload.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _odd(name, value, "a map")
    return value


def _moment(payload: Mapping[str, Any], name: str) -> float | None:
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise _odd(name, value, "a number of seconds since 1970")
    return float(value)


def _key(payload: Mapping[str, Any], name: str) -> str | None:
    value = payload.get(name)
    if value is not None and not isinstance(value, str):
        raise _odd(name, value, "a text")
    return value or None


def _odd(name: str, value: object, expected: str) -> PayloadError:
    # The value itself may be secret, or large.
    return PayloadError(f"{name!r} of the task is of type {type(value).__name__}; expected {expected}")
