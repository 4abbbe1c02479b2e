"""Texts into a dataclass: conversion by annotation, with errors that name option, value and expectation."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from datetime import timedelta
from math import isfinite
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tranship.errors import ConfigurationError, InvalidOptionError
from tranship.settings._redact import REDACTED, is_secret

__all__ = ["convert", "fill", "unknown"]

T = TypeVar("T")

_TRUTH: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def fill(cls: type[T], values: Mapping[str, Any], *, where: str, noun: str) -> T:
    """Return the dataclass ``cls`` made of ``values``; a dash in a name stands for an underscore.

    Args:
        cls: a dataclass whose fields are str, int, float, bool, Literal, tuple[str, ...], or one of
            them or None.
        values: texts, or values of the right type.
        where: says in errors where the values come from.
        noun: what errors call a value.

    Raises:
        InvalidOptionError: an unknown name, a missing one, or a value of the wrong type.
    """
    hints = get_type_hints(cls)
    known = _fields(cls)
    converted: dict[str, Any] = {}
    for given, value in values.items():
        name = given.replace("-", "_")
        if name not in known:
            raise unknown(noun, given, known, where)
        converted[name] = convert(given, value, hints[name], where=where, noun=noun)
    for name, part in known.items():
        if name not in converted and part.default is MISSING and part.default_factory is MISSING:
            raise InvalidOptionError(f"{noun} {name} is missing {where}; add it")
    return cls(**converted)


def _fields(cls: Any) -> dict[str, Field[Any]]:
    return {part.name: part for part in fields(cls) if part.init}


def unknown(noun: str, name: str, known: Mapping[str, Any], where: str) -> InvalidOptionError:
    """Return the error for a name nobody knows, with the ones that are known."""
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return InvalidOptionError(f"{noun} {name!r} {where} is unknown; {guess}known are: {', '.join(sorted(known))}")


def convert(name: str, value: Any, kind: Any, *, where: str, noun: str) -> Any:
    """Return ``value`` as ``kind``; a value that is no text must have the type already.

    Raises:
        InvalidOptionError: it cannot be read as ``kind``; a secret value is not shown.
    """
    try:
        return _converted(value, kind)
    except ConfigurationError:
        raise
    except (ValueError, TypeError, KeyError):
        shown = REDACTED if is_secret(name) else repr(value)
        raise InvalidOptionError(f"{noun} {name} is {shown} {where}; expected {_expected(kind)}") from None


def _converted(value: Any, kind: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(value, kind)
    if origin is Literal:
        return _literal(value, kind)
    if origin is tuple:
        return _several(value)
    if isinstance(value, str | list | dict) and hasattr(kind, "parse"):
        # A list or a table: several brokers in a configuration file.
        return kind.parse(value if isinstance(value, str) else json.dumps(value))
    return _READERS.get(kind, _typed(kind))(value)


def _optional(value: Any, kind: Any) -> Any:
    if value is None or value in ("", "none"):
        return None
    (some,) = (part for part in get_args(kind) if part is not types.NoneType)
    return _converted(value, some)


def _literal(value: Any, kind: Any) -> Any:
    return {str(choice): choice for choice in get_args(kind)}[str(value)]


def _several(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(_string(part) for part in value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isfinite(number := float(value)):
        raise ValueError
    return number


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else _TRUTH[value.lower() if isinstance(value, str) else value]


def _typed(kind: Any) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError
        return value

    return check


_READERS: Final[Mapping[Any, Callable[[Any], Any]]] = {str: _string, int: _integer, float: _number, bool: _truth}


def _expected(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if part is types.NoneType else _expected(part) for part in get_args(kind))
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if origin is tuple:
        return "texts, separated by commas"
    if hasattr(kind, "parse"):
        return str(getattr(kind, "expected", "a URL, such as redis://localhost/0"))
    return _NOUNS.get(kind, f"a {getattr(kind, '__name__', kind)}")


_NOUNS: Final[Mapping[Any, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
