"""Values that arrive as something else: what a format has no word for, where no annotation brings it back."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Final

from tranship import codec

__all__ = ["SIMPLE", "oddities"]

SIMPLE: Final[frozenset[type]] = frozenset({str, int, float, bool, type(None)})
"""Types of values that arrive as they are."""
_MOST: Final = 1000
"""Values that are looked at; there are as many kinds of data in a longer list as in its beginning."""


def oddities(value: Any, path: str, content_type: str = codec.JSON) -> list[str]:
    """Return in words which parts of ``value`` will arrive as something else."""
    found: list[str] = []
    todo: list[tuple[str, Any]] = [(path, value)]
    looked = 0
    while todo and looked < _MOST:
        place, part = todo.pop()
        looked += 1
        if type(part) in SIMPLE:
            continue
        what = _becomes(part, content_type)
        if what is not None:
            found.append(f"{place} {what}")
        todo.extend(_parts(place, part))
    return found


def _becomes(value: Any, content_type: str) -> str | None:
    kind = type(value).__qualname__
    if isinstance(value, enum.Enum):
        return f"is a {kind} and arrives as its value"
    if isinstance(value, tuple):
        return f"is a {kind} and arrives as a list"
    if isinstance(value, Mapping):
        odd = next((key for key in value if not isinstance(key, str)), None)
        if content_type == codec.JSON and (odd is not None or None in value):
            return f"has keys of type {type(odd).__qualname__}, which arrive as text"
        return None
    return f"is a {kind} and arrives as a dict" if is_dataclass(value) or hasattr(value, "model_fields_set") else None


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return ((f"{path}[{key!r}]", one) for key, one in list(value.items())[:_MOST])
    if isinstance(value, list | tuple):
        return ((f"{path}[{at}]", one) for at, one in enumerate(value[:_MOST]))
    return iter(())
