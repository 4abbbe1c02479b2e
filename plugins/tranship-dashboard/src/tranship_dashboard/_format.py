"""Figures and moments as people read them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from tranship.display import visible, visible_lines

__all__ = [
    "age",
    "ago",
    "clock",
    "count",
    "cpu",
    "data",
    "line",
    "lines",
    "megabytes",
    "moment",
    "per_second",
    "seconds",
    "share",
]

LONGEST: Final = 20_000
"""Characters of a value that are shown."""
_JSON: Final = json.JSONEncoder(indent=2, ensure_ascii=False, default=repr)
NONE: Final = "\N{EN DASH}"


def age(value: float | None) -> str:
    """Return seconds as ``3 s``, ``5 min``, ``2 h 10 min`` or ``3 d 4 h``."""
    if value is None or not math.isfinite(value):
        return NONE
    whole = max(0, int(value))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def ago(at: float | None) -> str:
    """Return how long ago a moment was, or in how long it will be."""
    if at is None or not math.isfinite(at):
        return NONE
    left = at - time.time()
    return f"in {age(left)}" if left >= 1 else f"{age(-left)} ago"


def moment(at: float | None) -> str:
    """Return epoch seconds as a date and a time, in UTC."""
    try:
        return NONE if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return NONE


def clock(at: float, *, exact: bool = False) -> str:
    """Return the time of day, in UTC; exact: with its seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S" if exact else "%H:%M")


def seconds(value: float | None) -> str:
    """Return a short duration: ``12 ms``, ``1.3 s``, ``5 min``."""
    if value is None:
        return NONE
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if value < 60 else age(value)


def count(value: float | None) -> str:
    """Return a number with its thousands apart."""
    return NONE if value is None else f"{value:,.0f}".replace(",", "\N{THIN SPACE}")


def per_second(value: float | None) -> str:
    """Return a rate."""
    if value is None:
        return NONE
    if value == 0:
        return "0/s"
    return f"{value * 60:.2g}/min" if value < 0.1 else f"{value:.3g}/s"


def share(value: float | None) -> str:
    """Return a part of one in percent."""
    return NONE if value is None else f"{min(1.0, max(0.0, value)):.0%}"


def cpu(value: float | None) -> str:
    """Return CPUs in percent of one."""
    return NONE if value is None else f"{value:.0%}"


def megabytes(value: int | None) -> str:
    """Return bytes as megabytes."""
    return NONE if value is None else f"{value / 2**20:.0f} MB"


def line(text: Any) -> str:
    """Return a stranger's text in one line."""
    return NONE if text is None or text == "" else visible(str(text)[:LONGEST])


def lines(text: Any) -> str:
    """Return a stranger's text of several lines."""
    return visible_lines(str(text)[:LONGEST])


def data(value: Any) -> str:
    """Return a value as JSON, or else as Python shows it."""
    try:
        text = _beginning(_JSON.iterencode(value))
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return visible_lines(text[:LONGEST]) + ("" if len(text) <= LONGEST else "\n... (there is more)")


def _beginning(parts: Iterable[str]) -> str:
    """Return as much as is shown, and a little more: what nobody sees is not written."""
    found, size = list[str](), 0
    for part in parts:
        found.append(part)
        size += len(part)
        if size > LONGEST:
            break
    return "".join(found)
