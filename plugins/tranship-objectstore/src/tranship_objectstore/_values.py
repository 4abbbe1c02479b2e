"""Texts and paths inside of arguments and results: found, and replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from tranship.outcomes import Outcome

__all__ = ["replaced"]

Leaf = str | PurePath


def replaced(value: Any, change: Callable[[Leaf], Any]) -> Any:
    """Return ``value`` with what ``change`` makes of each text and path in it; where nothing changes, itself.

    It looks into lists, tuples, dicts (not their keys), dataclasses, pydantic models and outcomes.
    """
    if type(value) is str or isinstance(value, PurePath):
        return change(value)
    if isinstance(value, Mapping):
        changed = {name: replaced(one, change) for name, one in value.items()}
        return changed if _differs(value, changed) else value
    if isinstance(value, list | tuple):
        items = [replaced(one, change) for one in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return items if isinstance(value, list) else _tuple(value, items)
    if type(value) is Outcome:
        data = replaced(value.data, change)
        return value if data is value.data else Outcome(value.status, data)
    return _model(value, change)


def _tuple(value: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    make = getattr(type(value), "_make", tuple)
    made: tuple[Any, ...] = make(items)
    return made


def _model(value: Any, change: Callable[[Leaf], Any]) -> Any:
    """Return a dataclass or a pydantic model with other fields; anything else as it is."""
    if isinstance(value, type):
        return value
    if dataclasses.is_dataclass(value):
        names = [one.name for one in dataclasses.fields(value) if one.init]
        copy: Any = dataclasses.replace
        return _changed(value, names, change, lambda changed: copy(value, **changed))
    if hasattr(type(value), "__pydantic_core_schema__") and hasattr(value, "model_copy"):
        names = list(type(value).model_fields)
        return _changed(value, names, change, lambda changed: value.model_copy(update=changed))
    return value


def _changed(
    value: Any, names: Iterable[str], change: Callable[[Leaf], Any], copy: Callable[[dict[str, Any]], Any]
) -> Any:
    fields = {name: getattr(value, name) for name in names}
    changed = {name: replaced(one, change) for name, one in fields.items()}
    return copy(changed) if _differs(fields, changed) else value


def _differs(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(new[name] is not one for name, one in old.items())
