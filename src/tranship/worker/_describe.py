"""From an exception to what crosses the wire. It never raises, whatever the exception's own code does.

An exception is code of users: its ``__str__`` may raise, its attributes may be anything, and the standard library
cannot write every traceback (a SyntaxError with odd arguments, groups nested a thousand deep). A description that
failed would leave the delivery undecided, and the task would run again and again.
"""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, TypeVar

from tranship.envelope import ErrorInfo
from tranship.errors import DeadlineExceeded, TaskError, TaskTimedOut, TranshipError
from tranship.protocol import writable, writable_arguments

__all__ = ["arguments_of", "cleaned", "describe", "describe_final", "message_of"]

_OURS: Final = ("tranship.worker.", "tranship.task.", "tranship.compat.")
"""Modules between the worker's loop and the handler."""
_LONGEST_CHAIN: Final = 100
"""Exceptions that led to each other; of more than that only the last one is written."""
_LONGEST_NAME: Final = 500

T = TypeVar("T")


def describe(error: BaseException) -> ErrorInfo:
    """Put ``error`` into the form that crosses the wire [error_beyond_description].

    A TaskError keeps its code, its verdict and its details; any other exception is retryable, with the class's
    qualified name as its type.
    """
    code, retryable, details = _facts(error)
    return ErrorInfo(
        type=_type(error),
        message=message_of(error),
        code=code,
        retryable=retryable,
        details=details,
        traceback=_traceback(error),
        error_type=_had(lambda: cleaned(str(error.error_type))[:_LONGEST_NAME], "")
        if isinstance(error, TaskError)
        else "",
        arguments=arguments_of(error),
        module=_had(lambda: cleaned(type(error).__module__)[:_LONGEST_NAME], ""),
    )


def describe_final(error: BaseException) -> ErrorInfo:
    """The same of what does not fit today and will not fit tomorrow; where it was raised says nothing."""
    info = describe(error)
    return ErrorInfo(type=info.type, message=info.message, code=info.code, retryable=False, traceback=None)


def message_of(error: BaseException) -> str:
    """Return what ``str(error)`` says, or why it says nothing."""
    try:
        return cleaned(str(error))
    except BaseException as why:  # noqa: BLE001 - a __str__ of the user's own may raise anything
        return f"{_name(error)}, whose text cannot be had: its __str__ raised {_name(why)}"


def cleaned(text: str) -> str:
    """Return ``text`` as every serialisation can write it: lone surrogates (of file names) are escaped."""
    return str.encode(text, "utf-8", "backslashreplace").decode("utf-8")


def _had(get: Callable[[], T], otherwise: T) -> T:
    """Return what ``get`` returns, or ``otherwise``: what it asks may be code of users."""
    try:
        return get()
    except BaseException:  # noqa: BLE001 - it may raise anything
        return otherwise


def _name(error: BaseException) -> str:
    return cleaned(type(error).__qualname__)[:_LONGEST_NAME]


def _type(error: BaseException) -> str:
    return _had(lambda: cleaned(f"{type(error).__module__}.{type(error).__qualname__}")[:_LONGEST_NAME], _name(error))


def _facts(error: BaseException) -> tuple[str, bool, Mapping[str, Any]]:
    """Return code, verdict and details."""
    if not isinstance(error, TranshipError):
        return "TASK_FAILED", True, {}
    code = _had(lambda: cleaned(str(error.code)), type(error).__name__)[:_LONGEST_NAME]
    if isinstance(error, TaskError):
        # A subclass need not have called our __init__.
        return code, _had(lambda: bool(error.retryable), True), _had(lambda: _details(error), {})
    if isinstance(error, DeadlineExceeded | TaskTimedOut):
        return code, error.retryable, {}
    # A tranship error that a handler let through: its own class says what it is.
    return code, True, {}


def arguments_of(error: BaseException) -> list[Any]:
    """Return what ``error`` was made of, each apart; of an attempt that ran too long its limit, as Celery has it."""
    if isinstance(error, TaskTimedOut) and error.limit is not None:
        return [int(error.limit) if float(error.limit).is_integer() else error.limit]
    return _had(lambda: writable_arguments(error.args), [message_of(error)])


def _details(error: TaskError) -> Mapping[str, Any]:
    return writable(dict(error.details))


# The traceback.


def _traceback(error: BaseException) -> str:
    """The traceback as text, without our own frames above the handler's; as much of it as can be written."""
    frames = error.__traceback__
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith(_OURS):
        frames = frames.tb_next
    try:
        chain = _chain_is_short(error)
        return cleaned("".join(tracebacks.format_exception(type(error), error, frames, chain=chain)))
    except BaseException as why:  # noqa: BLE001 - the standard library reads the exception's attributes, and recurses
        return _plain_traceback(error, frames, why)


def _chain_is_short(error: BaseException) -> bool:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if len(seen) == _LONGEST_CHAIN:
            return False
        seen.add(id(link))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return True


def _plain_traceback(error: BaseException, frames: TracebackType | None, why: BaseException) -> str:
    where = _had(lambda: "".join(tracebacks.format_tb(frames)), "")
    return cleaned(
        f"Traceback (most recent call last):\n{where}{_type(error)}: {message_of(error)}\n"
        f"(what belongs to it cannot be written: {_name(why)})\n"
    )
