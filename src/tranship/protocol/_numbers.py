"""Numbers as anybody may have written them: the one reader for what comes from a broker.

A number on the wire is a number of JSON, msgpack or AMQP, or its digits in a header. ``int()`` and ``float()`` raise
on some of them (more than 4,300 digits, an infinity), take a time that grows with the square of the digits, and accept
what nobody writes (``"1_0"``, ``"nan"``). Nothing here raises, and no text that is longer than a number is looked at.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final

__all__ = ["FIRST", "LAST", "epoch_of", "is_duration", "is_epoch", "number_of", "whole_of"]

_MOST: Final = 2**63 - 1
"""The largest whole number that brokers count to."""
_DIGITS: Final = 20
_CHARACTERS: Final = 40
_NUMBER: Final = r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?"
"""Compiled when it is needed."""
FIRST: Final = datetime(1, 1, 1, tzinfo=UTC).timestamp()
LAST: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def whole_of(value: object, *, least: int = 0, most: int = _MOST) -> int | None:
    """Return the whole number that ``value`` stands for; None: it is none, or outside of ``least`` to ``most``.

    Args:
        value: a number, which may be written with a fraction of 0, or decimal digits as text or bytes.
        least: the smallest that is meant.
        most: the largest that is meant.
    """
    if isinstance(value, str | bytes):
        found = _digits(value)
    elif isinstance(value, float):
        found = int(value) if value.is_integer() else None
    else:
        found = value if isinstance(value, int) and not isinstance(value, bool) else None
    return found if found is not None and least <= found <= most else None


def number_of(value: Any) -> float | None:
    """Return the finite number that ``value`` stands for; None: it is none.

    Args:
        value: a number, or a decimal number as text or bytes.
    """
    if isinstance(value, str | bytes):
        text = _short(value, _CHARACTERS)
        value = float(text) if re.fullmatch(_NUMBER, text) else None
    return float(value) if is_number(value) else None


def epoch_of(value: object) -> float | None:
    """Return the point in time that ``value`` stands for; None: it is none, or outside of the years 1 to 9999."""
    found = number_of(value)
    return found if found is not None and FIRST <= found <= LAST else None


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return isfinite(value)
    except OverflowError:
        return False


def is_epoch(value: Any) -> bool:
    """Whether ``value`` is a number that can be written as a date."""
    return is_number(value) and FIRST <= value <= LAST


def is_duration(value: Any) -> bool:
    """Whether ``value`` is a finite number of at least 0."""
    return is_number(value) and value >= 0


def _digits(value: str | bytes) -> int | None:
    if type(value) is bytes and value.isdigit() and len(value) <= _DIGITS:
        return int(value)  # the usual case: ASCII, as the method has it for bytes
    text = _short(value, _DIGITS + 1)
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS else None


def _short(value: str | bytes, most: int) -> str:
    """Return ``value`` as text; empty where it is longer than ``most``."""
    if len(value) > most:
        return ""
    return value if isinstance(value, str) else value.decode("ascii", "replace")
