"""How long a failure asks to be left alone: in whatever form its exception, or the server behind it, says so."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

__all__ = ["seconds_of"]


def seconds_of(value: Any) -> float | None:
    """Return the seconds that ``value`` stands for, at least 0; None: it says nothing. It never raises.

    Args:
        value: seconds, as a number or as text; a timedelta; a point in time, as a datetime or as an HTTP date
            (``Retry-After`` has either, RFC 9110 section 10.2.3). A datetime without a time zone is UTC.
    """
    try:
        seconds = _seconds(value)
    except Exception:  # noqa: BLE001 - it is whatever the user's exception has there
        return None
    return max(0.0, seconds) if seconds is not None and isfinite(seconds) else None


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return _until(value)
    if isinstance(value, str | bytes):
        text = value.decode() if isinstance(value, bytes) else value
        return _of_text(text.strip())
    return None if value is None else float(value)


def _of_text(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return _until(parsedate_to_datetime(text))


def _until(moment: datetime) -> float:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() - time.time()
