"""Errors that are too large: what says most of them is kept, the beginning of a message and the end of a traceback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tranship import codec
from tranship.envelope import ErrorInfo

__all__ = ["beginning", "ending", "shortened"]

_LINE: Final = 1000
"""Characters of a line of a traceback: the last one repeats the whole message."""
_ENOUGH: Final = 65_536
"""Characters that are left of an error which is too large, at most."""
_LEAST: Final = 64


def shortened(error: ErrorInfo, limit: int) -> Iterator[ErrorInfo]:
    """Yield ``error`` in shorter and shorter forms, the first one well below ``limit`` bytes, the last one its type.

    How many bytes a text takes depends on who writes it.
    """
    size = min(limit // 2, _ENOUGH)
    while size >= _LEAST:
        yield replace(
            error,
            message=beginning(error.message, size // 2),
            traceback=None if error.traceback is None else ending(error.traceback, size // 2),
            details=_small(error.details, size // 2),
            arguments=_small_arguments(error.arguments, size // 2),
        )
        size //= 4
    yield ErrorInfo(
        type=error.type, message=beginning(error.message, _LEAST), code=error.code, retryable=error.retryable
    )


def beginning(text: str, most: int) -> str:
    """Return the first ``most`` characters of ``text``, and how many there were."""
    return text if len(text) <= most else f"{text[:most]}\N{HORIZONTAL ELLIPSIS} (shortened: {len(text):,} characters)"


def ending(traceback: str, most: int) -> str:
    """Return the last lines of ``traceback``, none of them long, in ``most`` characters."""
    if len(traceback) <= most:
        return traceback
    lines = [beginning(line, _LINE) for line in traceback.splitlines(keepends=True)]
    kept: list[str] = []
    for line in reversed(lines):
        most -= len(line)
        if most < 0 and kept:
            break
        kept.append(line if line.endswith("\n") else f"{line}\n")
    return f"(shortened: {len(traceback):,} characters)\n" + "".join(reversed(kept))


def _small(details: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return the details that are small; what became of the others."""
    kept: dict[str, Any] = {}
    for name, value in details.items():
        size = _size(value)
        fits = size <= most
        kept[name] = value if fits else f"(left out: {size:,} bytes)"
        most -= size if fits else 0
    return kept


def _small_arguments(arguments: Sequence[Any] | None, most: int) -> Sequence[Any] | None:
    """Return the arguments, where all of them are small."""
    return arguments if arguments is None or _size(list(arguments)) <= most else None


def _size(value: Any) -> int:
    try:
        return len(codec.dumps(value))
    except Exception:  # noqa: BLE001 - a model's own code may raise anything
        return 0
