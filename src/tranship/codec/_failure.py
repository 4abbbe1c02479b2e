"""Which part of a value could not be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tranship.codec._tagged import plain
from tranship.errors import EncodeError

_DEPTH: Final = 64
MAX_DEPTH: Final = 500
"""How many levels a value may have: every reader manages that many."""

REFUSALS: Final = (TypeError, ValueError, OverflowError, RecursionError, MemoryError)
"""What a serialiser, or a model asked to dump itself, raises for a value it cannot write."""


def refusal(value: Any, name: str, content_type: str, write: Callable[[Any], object]) -> EncodeError:
    """Return the error for ``value``, which ``write`` refuses: it has the path to the part to blame."""
    path, part = name, value
    for _ in range(_DEPTH):
        step = next(((more, inner) for more, inner in _children(part) if _refuses(write, inner)), None)
        if step is None and not is_deep(part):
            return EncodeError(f"{path} {_blame(part, write)}, which {content_type} cannot carry; {_advice(part)}")
        if step is None:
            break
        path, part = path + step[0], step[1]
    return EncodeError(f"{name} is nested too deeply, or contains itself; {content_type} cannot carry it")


def too_many(name: str, error: Exception) -> EncodeError:
    """Return the error for a value that is more than a reader builds."""
    return EncodeError(f"{name} has {error}, the most that one message may hold; pass a reference (a path, a URL)")


def is_deep(value: Any) -> bool:
    """Whether ``value``, which contains no cycle, has more than :data:`MAX_DEPTH` levels."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for item in level for _, inner in _children(item)]
        if not level:
            return False
    return True


def _advice(value: Any) -> str:
    if isinstance(value, BaseException):
        return "raise an exception, or send its text"
    return _ADVICE


_ADVICE: Final = "send numbers, text, lists, dicts, dates, UUIDs, bytes, dataclasses or pydantic models"


def _blame(value: Any, write: Callable[[Any], object]) -> str:
    if isinstance(value, Mapping):
        for key in value:
            if _refuses(write, {key: None}):
                return f"has a key of type {type(key).__qualname__}"
    if isinstance(value, str):
        return "is a str with lone surrogates"
    if isinstance(value, int):
        return "is an int that is too large"
    return f"is of type {type(value).__qualname__}"


def _refuses(write: Callable[[Any], object], value: Any) -> bool:
    try:
        write(value)
    except REFUSALS:
        return True
    return False


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return ((f"[{key!r}]", inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ((f"[{index}]", inner) for index, inner in enumerate(value))
    if isinstance(value, str | int | None):
        return iter(())
    try:
        simpler = plain(value)
    except REFUSALS:
        return iter(())
    if isinstance(simpler, Mapping):
        return ((f".{key}", inner) for key, inner in simpler.items())
    return iter([("", simpler)])
