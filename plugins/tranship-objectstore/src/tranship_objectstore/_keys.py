"""When objects expire: their keys tell it, as no two stores have the same way to."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

__all__ = ["FOREVER", "is_over", "until"]

FOREVER: Final = "kept"
_STAMP: Final = re.compile(r"\d{8}T\d{6}Z")
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def until(epoch: float | None) -> str:
    """Return the part of a key that says when the object expires; such parts sort by time. None: never."""
    return FOREVER if epoch is None else f"{datetime.fromtimestamp(min(epoch, _LATEST), UTC):%Y%m%dT%H%M%SZ}"


def is_over(part: str, now: float) -> bool | None:
    """Whether an object with this part in its key has expired; None: it says nothing of that."""
    return part < until(now) if _STAMP.fullmatch(part) else None
