"""What became of a value that was written and read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

__all__ = ["difference"]

_DATA: Final = (str, int, float, bool, type(None), list, tuple, set, frozenset, Mapping)


def difference(sent: Any, read: Any) -> str | None:
    """Return where ``read`` has another type than ``sent``, in words; None: nowhere.

    A part that is data in ``sent`` may have become something richer, and one that was excluded from what is written
    may be None.
    """
    for path, one, other in _pairs("", sent, read):
        if not isinstance(one, _DATA) and other is not None and not isinstance(one, type(other)):
            place = f"{path} is" if path else "it is"
            return f"{place} a {type(one).__qualname__}, and is read as a {type(other).__qualname__}"
    return None


def _pairs(path: str, sent: Any, read: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the parts that both have, with their paths: an outer one before those inside of it."""
    yield path, sent, read
    names = _fields(sent)
    if names:
        for name in names:
            if hasattr(sent, name) and hasattr(read, name):
                yield from _pairs(f"{path or type(sent).__qualname__}.{name}", getattr(sent, name), getattr(read, name))
    elif isinstance(sent, list | tuple) and isinstance(read, list | tuple):
        for index, (one, other) in enumerate(zip(sent, read, strict=False)):
            yield from _pairs(f"{path}[{index}]", one, other)
    elif isinstance(sent, Mapping) and isinstance(read, Mapping):
        for key in sent.keys() & read.keys():
            yield from _pairs(f"{path}[{key!r}]", sent[key], read[key])


def _fields(value: Any) -> list[str]:
    if is_dataclass(value) and not isinstance(value, type):
        return [part.name for part in fields(value)]
    return list(getattr(type(value), "model_fields", ()))
