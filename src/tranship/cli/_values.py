"""Values as people type them: arguments of tasks, limits by type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer

__all__ = ["argument", "keyword_arguments", "type_limits"]


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
