"""Ids of results: they say which task a result is of, and since when, for Django asks that of an id alone.

``<digest of the task's path>-<milliseconds>-<random>``, in hexadecimal digits; 49 of the 64 characters that Django
allows.
"""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime
from hashlib import blake2s
from typing import Final

__all__ = ["digest_of", "enqueued_at", "new_id", "task_digest"]

_SHAPE: Final = re.compile(r"(?P<digest>[0-9a-f]{16})-(?P<milliseconds>[0-9a-f]{11})-[0-9a-f]{20}")


def digest_of(path: str) -> str:
    """Return what stands for the task of that module path."""
    return blake2s(path.encode(), digest_size=8).hexdigest()


def new_id(path: str) -> str:
    """Return a fresh id for a task of that path."""
    return f"{digest_of(path)}-{time.time_ns() // 1_000_000:011x}-{secrets.token_hex(10)}"


def task_digest(result_id: object) -> str | None:
    """Return what stands for the task; None: it is no id of ours."""
    found = _SHAPE.fullmatch(result_id) if isinstance(result_id, str) else None
    return found and found["digest"]


def enqueued_at(result_id: str) -> datetime | None:
    """Return when the task was enqueued, with a time zone; None: it is no id of ours."""
    found = _SHAPE.fullmatch(result_id)
    return found and datetime.fromtimestamp(int(found["milliseconds"], 16) / 1000, UTC)
