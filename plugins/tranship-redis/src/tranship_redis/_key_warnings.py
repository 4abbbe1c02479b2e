"""Keys that hold something else than they should: said when it is noticed, and now and then for as long as it lasts."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from redis.exceptions import ResponseError

from tranship.errors import TranshipError
from tranship_redis._errors import error_of

__all__ = ["KeyWarnings"]

log = logging.getLogger("tranship.redis")

PAUSE: Final = 60.0


class KeyWarnings:
    """Warnings about single keys, for whoever works with many of them.

    Args:
        doing: what is being done, for the text; the key follows it.
        pause: seconds until a warning about the same key is repeated.
    """

    def __init__(self, doing: str, *, pause: float = PAUSE) -> None:
        self._doing = doing
        self._pause = pause
        self._said: dict[bytes, float] = {}

    def errors(self, trouble: Sequence[bytes]) -> list[tuple[bytes, TranshipError]]:
        """Return what a script said of its trouble, keys and texts in turn, as keys and errors."""
        return [
            (key, error_of(ResponseError(_text(why)), doing=f"{self._doing} {_text(key)}"))
            for key, why in zip(trouble[::2], trouble[1::2], strict=True)
        ]

    def warn(self, key: bytes, error: TranshipError) -> None:
        """Log ``error``, unless that was done for this key a moment ago."""
        now = time.monotonic()
        if now - self._said.get(key, float("-inf")) >= self._pause:
            self._said[key] = now
            log.warning("a key is not what it should be: %s", error)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
