"""What spans say of errors: texts that can be exported, whatever a handler has raised."""

from __future__ import annotations

import traceback

from opentelemetry.trace import Span, Status, StatusCode

from tranship.errors import TranshipError
from tranship_otel import _names as names

__all__ = ["kind_of", "record"]


def kind_of(error: BaseException) -> str:
    """Return ``error.type``: the code of an error of tranship's, or the class."""
    return names.readable(error.code if isinstance(error, TranshipError) else _class_of(error))


def record(span: Span, error: BaseException) -> None:
    """Make ``span`` one that failed with ``error``."""
    span.set_attribute(names.ERROR_TYPE, kind_of(error))
    if span.is_recording():
        message = _message(error)
        # Not record_exception(): it raises what the exception's own __str__ raises.
        span.add_event(
            "exception",
            {
                "exception.type": names.readable(_class_of(error)),
                "exception.message": message,
                "exception.stacktrace": names.readable("".join(traceback.format_exception(error))),
            },
        )
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {message}"))


def _class_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return names.readable(str(error))
    except Exception:  # noqa: BLE001 - the exception's own code
        return "(its text cannot be had)"
