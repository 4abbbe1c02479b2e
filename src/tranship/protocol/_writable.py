"""What a failure brings along, made fit to be written: reporting a failure must not fail."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from tranship import codec

__all__ = ["writable", "writable_arguments"]


def writable(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``details`` with a repr of what cannot be written."""
    return {_named(name): _fit(value) for name, value in details.items()}


def writable_arguments(arguments: Iterable[Any]) -> list[Any]:
    """Return an exception's arguments with a repr of what cannot be written, as Celery does."""
    return [_named(value) if isinstance(value, str) else _fit(value) for value in arguments]


def _fit(value: Any) -> Any:
    return value if _can_write(value) else _shown(value)


def _can_write(value: Any) -> bool:
    try:
        codec.dumps(value)
    except Exception:  # noqa: BLE001 - a model's own code may raise anything
        return False
    return True


def _named(name: Any) -> str:
    return str.encode(name, "utf-8", "backslashreplace").decode() if isinstance(name, str) else _shown(name)


def _shown(value: Any) -> str:
    show = reprlib.Repr()  # stays calm where repr() would raise: deep nesting, a broken __repr__
    show.maxother = show.maxstring = 200
    try:
        return show.repr(value)
    except Exception:  # noqa: BLE001 - a container of the user's own may raise anything
        return f"<{type(value).__qualname__}>"
