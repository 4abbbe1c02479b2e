"""What an annotation asks of a value: which values are as they should be at first sight, and who reads the others."""

from __future__ import annotations

import dataclasses
import types
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from tranship.task._understood import is_typed_dict

__all__ = ["exact_types", "holds_unwritten", "is_container_of_anything", "is_free", "mentions_model"]

_SCALARS: Final[dict[Any, set[type]]] = {
    str: {str},
    int: {int},
    bool: {bool},
    None: {type(None)},
    type(None): {type(None)},
}
_UNWRITTEN: Final = (set, frozenset, timedelta, PurePath)
"""What the codec refuses where nothing says that it is to come back."""


def is_free(hint: Any) -> bool:
    """Whether every value is as it should be."""
    return hint in (Any, object) or isinstance(hint, TypeVar)


def is_container_of_anything(hint: Any) -> bool:
    """Whether it is a list or a dict whose parts may be anything that JSON has."""
    if hint in (list, dict):
        return True
    origin, inner = get_origin(hint), get_args(hint)
    return (origin is list and inner == (Any,)) or (origin is dict and inner == (str, Any))


def exact_types(hint: Any, *, sent: bool) -> frozenset[type] | None:
    """Return the types of values that fit at first sight and stay as they are; None: each is read.

    Args:
        hint: the annotation.
        sent: of what is sent, where whole numbers are floats, too; else of what has arrived.
    """
    if is_container_of_anything(hint):
        return frozenset[type]({get_origin(hint) or hint})
    if hint is float:
        return frozenset({float, int}) if sent else frozenset({float})
    if isinstance(hint, type | None) and hint in _SCALARS:
        return frozenset(_SCALARS[hint])
    if get_origin(hint) in (Union, types.UnionType):
        found = [exact_types(one, sent=sent) for one in get_args(hint)]
        known = [one for one in found if one is not None]
        return frozenset[type]().union(*known) if len(known) == len(found) else None
    return None


def holds_unwritten(hint: Any) -> bool:
    """Whether values of it may hold what the codec refuses; what is in a dataclass or a typed dict may be anything."""
    if isinstance(hint, list):  # the parameters of a Callable
        return any(map(holds_unwritten, hint))
    whole = get_origin(hint) or hint
    if isinstance(whole, type) and (
        issubclass(whole, _UNWRITTEN) or dataclasses.is_dataclass(whole) or is_typed_dict(whole)
    ):
        return True
    return any(map(holds_unwritten, get_args(hint)))


def mentions_model(hint: Any) -> bool:
    """Whether a pydantic model, a secret or a dataclass is anywhere in it."""
    if isinstance(hint, list):
        return any(map(mentions_model, hint))
    return _is_model(hint) or _is_model(get_origin(hint)) or any(map(mentions_model, get_args(hint)))


def _is_model(hint: Any) -> bool:
    # A pydantic model is recognised by what pydantic writes into it, without importing pydantic.
    marks = ("__pydantic_core_schema__", "get_secret_value")
    return isinstance(hint, type) and (dataclasses.is_dataclass(hint) or any(hasattr(hint, mark) for mark in marks))
