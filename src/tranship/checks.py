"""Checks of option values: each error names the option, the value and what was expected."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from math import isfinite
from typing import Any, Final

from tranship.errors import InvalidOptionError

__all__ = [
    "LONGEST_NAME",
    "Duration",
    "duration",
    "header_names",
    "invalid",
    "is_number",
    "is_share",
    "key_text",
    "mapping",
    "name_text",
    "not_negative",
    "one_of",
    "positive",
    "positive_duration",
    "text",
    "whole",
]

LONGEST_NAME: Final = 255
"""Bytes of a name: what AMQP calls a short string."""
LONGEST_KEY: Final = 1000
"""Bytes of a cancel or dedup key: what fits into a subject of NATS."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHOWN: Final = 100

Duration = float | timedelta
"""A length of time as callers may give it; a number is seconds."""


def invalid(option: str, value: object, expected: str) -> InvalidOptionError:
    """Return the error for ``option`` having ``value`` where ``expected`` is needed."""
    return InvalidOptionError(f"{option} is {value!r}; expected {expected}", option=option)


def positive(option: str, value: Any) -> float:
    """Return ``value`` as a float above zero.

    Raises:
        InvalidOptionError: it is no finite number, or not above zero.
    """
    if not is_number(value) or value <= 0:
        raise invalid(option, value, "a number above 0")
    return float(value)


def not_negative(option: str, value: Any) -> float:
    """Return ``value`` as a float of at least zero.

    Raises:
        InvalidOptionError: it is no finite number, or below zero.
    """
    if not is_number(value) or value < 0:
        raise invalid(option, value, "a number of at least 0")
    return float(value)


def positive_duration(option: str, value: Any) -> float:
    """Return the seconds of ``value``, a length of time above zero.

    Raises:
        InvalidOptionError: it is neither seconds nor a timedelta, or not above zero.
    """
    seconds = _seconds(value)
    if seconds <= 0:
        raise invalid(option, value, "seconds, or a timedelta, above 0")
    return seconds


def duration(option: str, value: Any) -> float:
    """Return the seconds of ``value``, a length of time of at least zero.

    Raises:
        InvalidOptionError: it is neither seconds nor a timedelta, or below zero.
    """
    seconds = _seconds(value)
    if seconds < 0:
        raise invalid(option, value, "seconds, or a timedelta, of at least 0")
    return seconds


def is_share(value: Any) -> bool:
    """Whether ``value`` is a number from 0 to 1."""
    return is_number(value) and 0 <= value <= 1


def whole(option: str, value: Any, *, minimum: int = 1) -> int:
    """Return ``value``, a whole number of at least ``minimum``.

    Raises:
        InvalidOptionError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise invalid(option, value, f"a whole number of at least {minimum}")
    return value


def text(option: str, value: Any) -> str:
    """Return ``value``, a text that is not empty.

    Raises:
        InvalidOptionError: it is no text, or empty.
    """
    if not isinstance(value, str) or not value:
        raise invalid(option, value, "a text that is not empty")
    return value


def name_text(option: str, value: Any, longest: int = LONGEST_NAME) -> str:
    """Return ``value``, a text that can name something at every broker.

    Args:
        option: what an error calls it.
        value: what to look at.
        longest: its longest length in bytes of UTF-8.

    Raises:
        InvalidOptionError: it is no text, empty, too long, or has control characters (a line feed in a queue's name is
            dropped by RabbitMQ without a word) or halves of characters (lone surrogates, as in file names).
    """
    # Most names pass the first look.
    if isinstance(value, str) and value.isascii() and value.isprintable() and 0 < len(value) <= longest:
        return value
    if key_text(option, value, longest) and _CONTROL.search(value):
        raise invalid(option, _short(value), "a name without control characters, such as line feeds")
    return str(value)


def key_text(option: str, value: Any, longest: int = LONGEST_KEY) -> str:
    """Return ``value``, a text that every broker carries and every decoder reads.

    Args:
        option: what an error calls it.
        value: what to look at.
        longest: its longest length in bytes of UTF-8.

    Raises:
        InvalidOptionError: it is no text, empty, too long, or has halves of characters (lone surrogates).
    """
    if not isinstance(value, str) or not value:
        raise invalid(option, value, "a text that is not empty")
    if value.isascii() and len(value) <= longest:
        return value
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise invalid(option, _short(value), "a text in whole characters, without lone surrogates") from None
    if size > longest:
        raise invalid(option, _short(value), f"at most {longest} bytes, this has {size}")
    return value


def header_names(option: str, value: Any) -> Mapping[str, Any]:
    """Return ``value``, a mapping whose keys are names.

    Raises:
        InvalidOptionError: it is no mapping, or has another key.
    """
    for one in mapping(option, value):
        name_text(f"a name in {option}", one)
    found: Mapping[str, Any] = value
    return found


def one_of(option: str, value: Any, choices: Collection[Any]) -> Any:
    """Return ``value``, one of ``choices``.

    Raises:
        InvalidOptionError: it is none of them.
    """
    # Compared by type as well: True is not the choice 1.
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    raise invalid(option, value, "one of " + ", ".join(repr(choice) for choice in choices))


def mapping(option: str, value: Any) -> Mapping[str, Any]:
    """Return ``value``, a mapping whose keys are texts.

    Raises:
        InvalidOptionError: it is no mapping, or has another key.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise invalid(option, value, "a mapping with text keys")
    return value


def _seconds(value: Any) -> float:
    """The seconds of a length of time; less than none for what is no such thing."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if is_number(value) else -1.0


def _short(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # an int too large for a float
        return False
