"""Lengths of time as text: ISO 8601, as pydantic writes and reads them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

__all__ = ["span_of", "span_text"]

_TEXT: Final = r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d{1,6})?)S)?)?"
"""Compiled when it is needed."""


def span_text(span: timedelta) -> str:
    """Return ``span``, such as ``"P1DT2.500000S"``."""
    sign, span = ("-", -span) if span < timedelta(0) else ("", span)
    return f"{sign}P{span.days}DT{span.seconds}.{span.microseconds:06d}S"


def span_of(text: str) -> timedelta:
    """Return the length of time that ``text`` stands for.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(_TEXT, text)
    if found is None or not any(found.groups()[1:]):
        raise ValueError(text)
    sign, days, hours, minutes, seconds = found.groups()
    whole, _, part = (seconds or "0").partition(".")
    span = timedelta(
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=int(whole),
        microseconds=int(part.ljust(6, "0")) if part else 0,
    )
    return -span if sign else span
