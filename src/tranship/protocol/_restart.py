"""A dead letter that is queued again starts over."""

from __future__ import annotations

from typing import Final

from tranship import codec
from tranship.errors import EncodeError, MalformedMessage

__all__ = ["restarted"]

_PASSED: Final[dict[str, object]] = {"retries": 0, "eta": None}


def restarted(headers: bytes) -> bytes:
    """Return ``headers`` without what earlier attempts left in them: their count, and the time of the next one.

    Otherwise a replayed task whose retries were exhausted would have one attempt instead of all of them.
    Headers that cannot be read are returned as they are: the worker will say so again.
    """
    try:
        values = codec.loads(headers, codec.JSON)
        if not isinstance(values, dict):
            return headers
        values.update((name, value) for name, value in _PASSED.items() if name in values)
        values.pop("tranship-not-before", None)
        return codec.dumps(values, codec.JSON)
    except (MalformedMessage, EncodeError):
        return headers
