"""From an exception to one line, a hint and an exit code."""

from __future__ import annotations

import enum
from typing import Final

import typer

from tranship.errors import (
    BrokerUnreachable,
    ConfigurationError,
    EncodeError,
    InvalidArgumentsError,
    ResultsDisabled,
    SubmitTimeout,
    TaskNotFound,
    TaskResultError,
    TranshipError,
)
from tranship.settings import redact

__all__ = ["ClickException", "ExitCode", "exit_code", "hint", "one_line", "without_secrets"]

# Typer brings its own copy of click; older ones use the installed one. Both are found through typer.
ClickException: Final[type[Exception]] = typer.BadParameter.__mro__[2]


class ExitCode(enum.IntEnum):
    """What ``tranship`` exits with."""

    OK = 0
    FAILURE = 1
    """It did not work."""
    USAGE = 2
    """What was asked for makes no sense: arguments, options, settings, URLs, modules."""
    UNREACHABLE = 3
    """The broker does not answer."""
    TASK = 4
    """The task failed, was cancelled or dead-lettered, or has not ended in time."""
    INTERRUPTED = 130
    """Ctrl-C."""


_CODES: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], ExitCode], ...]] = (
    ((TaskNotFound, ResultsDisabled), ExitCode.FAILURE),
    (TaskResultError, ExitCode.TASK),
    ((BrokerUnreachable, SubmitTimeout), ExitCode.UNREACHABLE),
    ((ConfigurationError, InvalidArgumentsError, EncodeError, ClickException), ExitCode.USAGE),
)
"""The first that fits."""

_ELSEWHERE: Final = {"dashboard": "tranship-dashboard"}
"""Commands of our own plugins, which may not be installed."""


def exit_code(error: BaseException) -> ExitCode:
    """Return what to exit with after ``error``."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), ExitCode.FAILURE)


def one_line(error: BaseException) -> str:
    """Return the error in one line without secrets."""
    formatted = getattr(error, "format_message", None)
    text = formatted() if formatted is not None else str(error)
    if not isinstance(error, TranshipError | ClickException):
        text = f"unexpected {type(error).__name__}: {text}"
    elif not text:
        text = type(error).__name__
    return without_secrets(" ".join(text.split()))


def hint(error: BaseException) -> str:
    """Return what to do next, or nothing where the message says it."""
    if isinstance(error, ClickException):
        context = getattr(error, "ctx", None)
        missing = next((plugin for name, plugin in _ELSEWHERE.items() if f"No such command '{name}'" in str(error)), "")
        if missing:
            return f"to add it, in a clone of tranship: pip install ./plugins/{missing}"
        return f"see `{context.command_path} --help`" if context is not None else ""
    if isinstance(error, BrokerUnreachable):
        return "see `tranship doctor`"
    if isinstance(error, TranshipError):
        return ""
    return "TRANSHIP_DEBUG=1 shows where; if it is a bug, please report it"


def without_secrets(text: str) -> str:
    """Return ``text`` with the passwords of URLs in it hidden."""
    return " ".join(redact(word) if "://" in word else word for word in text.split(" "))
