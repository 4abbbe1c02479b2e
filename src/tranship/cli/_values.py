"""Values as people type them: arguments of tasks, limits by type, amounts, sizes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import typer

__all__ = ["argument", "keyword_arguments", "shown_size", "size", "type_limits", "whole_number"]

_SIZE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([kmgt])(?:i?b)?", re.IGNORECASE | re.ASCII)
_UNITS: Final = {unit: 1024**power for power, unit in enumerate("kmgt", 1)}


def argument(text: str) -> Any:
    """Return the JSON value that ``text`` is, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def keyword_arguments(pairs: Sequence[str], document: str | None) -> dict[str, Any]:
    """Return the keyword arguments of ``--kwargs`` with those of ``--kwarg`` over them.

    Raises:
        typer.BadParameter: no JSON object, or no ``key=value``.
    """
    return {**_object(document), **dict(map(_pair, pairs))}


def type_limits(pairs: Sequence[str]) -> dict[str, int]:
    """Return the limits of ``--type-limit``, by type; of two for one type the last.

    Raises:
        typer.BadParameter: no ``TYPE=N``.
    """
    return dict(map(_limit, pairs))


def whole_number(text: str, option: str, *, most: int) -> int:
    """Return a whole number from 1 to ``most``.

    Raises:
        typer.BadParameter: it is none; ``option`` is where it was given.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    if not 1 <= number <= most:
        raise typer.BadParameter(f"{text!r} is no whole number from 1 to {most}", param_hint=option)
    return number


def size(text: str, option: str) -> int:
    """Return the bytes that a size such as ``512M`` or ``1.5GiB`` stands for.

    Raises:
        typer.BadParameter: no size, or none of at least one byte; ``option`` is where it was given.
    """
    found = _SIZE.fullmatch(text.strip())
    amount = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if amount < 1:
        raise typer.BadParameter(
            f"{text!r} is no size above 0 with a unit of K, M, G or T, such as 512M or 1.5G", param_hint=option
        )
    return amount


def shown_size(amount: int) -> str:
    """Return ``amount`` bytes as people write it."""
    return f"{amount / _UNITS['m']:,.1f} MiB"


def _limit(text: str) -> tuple[str, int]:
    kind, _, number = text.rpartition("=")
    if not kind or not number.isascii() or not number.isdigit() or int(number) < 1:
        raise typer.BadParameter(
            f"{text!r} is no TYPE=N with a whole number of at least 1, such as video=2", param_hint="--type-limit"
        )
    return kind, int(number)


def _object(document: str | None) -> dict[str, Any]:
    if document is None:
        return {}
    try:
        value = json.loads(document)
    except ValueError as error:
        raise typer.BadParameter(f"{document!r} is no JSON: {error}", param_hint="--kwargs") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{document!r} is no JSON object; write '{{\"key\": value}}'", param_hint="--kwargs")
    return value


def _pair(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key.isidentifier():
        raise typer.BadParameter(f"{text!r} is no key=value", param_hint="--kwarg")
    return key, argument(value)
