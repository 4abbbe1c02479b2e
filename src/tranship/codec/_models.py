"""What is written of a pydantic model: data that the same model reads, with secrets as they are.

Fields are written under their own names, without computed ones. Values of kombu's extended types stay what they are,
so that a union or a strict field gets them back unchanged; everything else is written as pydantic writes JSON.
pydantic itself is never imported here: a model brings its serializer along.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, Final
from uuid import UUID

__all__ = ["data_of", "is_model", "is_secret", "model_data"]

_JSON: Final = frozenset({str, int, float, bool, type(None)})
_KEPT: Final = (str, int, float, datetime, date, time, Decimal, UUID, bytes, bytearray)
"""What the serialisers know by themselves, and kombu's extended types."""
_SERIES: Final = (list, tuple, deque, AbstractSet)
_MISSING: Final = object()
"""How pydantic writes a part as JSON has not been asked yet."""
_UNKNOWN: Final = object()
"""How pydantic writes a part as JSON cannot be told from the whole."""


class _JsonNeeded(Exception):
    """Only pydantic's JSON says how a value is written."""


def is_model(value: object) -> bool:
    """Whether ``value`` is a pydantic model, or one of pydantic's dataclasses."""
    return hasattr(type(value), "__pydantic_serializer__")


def is_secret(value: object) -> bool:
    """Whether ``value`` is one of pydantic's secrets, which show asterisks for what they hold."""
    return hasattr(value, "get_secret_value")


def model_data(model: Any, *, by_alias: bool = False) -> Any:
    """Return the data that is written of ``model``.

    Args:
        model: for which :func:`is_model` is true.
        by_alias: name the fields by their aliases.

    Raises:
        ValueError: pydantic cannot write it.
    """
    dump = partial(type(model).__pydantic_serializer__.to_python, model, by_alias=by_alias, round_trip=True)
    values = dump(mode="python")
    try:
        return _written(values, _MISSING)
    except _JsonNeeded:
        return _written(values, _as_json(dump))


def data_of(value: Any, *, by_alias: bool = False) -> Any:
    """Return ``value`` with data in place of models, dataclasses and secrets; itself where there are none."""
    if type(value) in _JSON or isinstance(value, type):
        return value
    if is_secret(value):
        return data_of(value.get_secret_value(), by_alias=by_alias)
    if is_model(value):
        return model_data(value, by_alias=by_alias)
    return _data_of_parts(value, by_alias)


def _data_of_parts(value: Any, by_alias: bool) -> Any:
    if isinstance(value, Mapping):
        found: Any = {key: data_of(one, by_alias=by_alias) for key, one in value.items()}
        return value if all(one is found[key] for key, one in value.items()) else found
    if isinstance(value, list | tuple):
        found = [data_of(one, by_alias=by_alias) for one in value]
        return value if all(one is new for one, new in zip(value, found, strict=True)) else found
    if is_dataclass(value):
        return {part.name: data_of(getattr(value, part.name), by_alias=by_alias) for part in fields(value)}
    return value


def _written(value: Any, as_json: Any) -> Any:
    """Return ``value``, a part of a dumped model.

    Args:
        value: as pydantic dumps it for Python: secrets and extended types are still there.
        as_json: the same part as pydantic dumps it for JSON, or one of the two marks.

    Raises:
        _JsonNeeded: it has to be asked.
        ValueError: pydantic cannot write it.
    """
    if is_secret(value):
        return _written(value.get_secret_value(), _UNKNOWN)
    if isinstance(value, Enum):
        return _written(value.value, as_json)
    if type(value) in _JSON or isinstance(value, _KEPT):
        return value
    if isinstance(value, Mapping):
        return _written_mapping(value, as_json)
    if isinstance(value, _SERIES):
        return _written_series(value, as_json)
    if as_json is _MISSING:
        raise _JsonNeeded
    return _alone(value) if as_json is _UNKNOWN else as_json


def _written_series(value: Any, as_json: Any) -> list[Any]:
    # In what order pydantic writes a set as JSON is not known.
    alike = isinstance(as_json, list) and len(as_json) == len(value) and not isinstance(value, AbstractSet)
    others = as_json if alike else [_inner(as_json)] * len(value)
    return [_written(one, other) for one, other in zip(value, others, strict=True)]


def _written_mapping(value: Mapping[Any, Any], as_json: Any) -> dict[str, Any]:
    if isinstance(as_json, dict) and len(as_json) == len(value):
        pairs = zip(as_json.items(), value.values(), strict=True)
        return {key: _written(one, other) for (key, other), one in pairs}
    if all(type(key) is str for key in value):
        return {key: _written(one, _inner(as_json)) for key, one in value.items()}
    if as_json is _MISSING:
        raise _JsonNeeded
    keys = _alone(dict.fromkeys(value))
    return {key: _written(one, _UNKNOWN) for key, one in zip(keys, value.values(), strict=True)}


def _inner(as_json: Any) -> Any:
    """What is known of the parts of something whose JSON has not the same parts."""
    return _MISSING if as_json is _MISSING else _UNKNOWN


def _as_json(dump: Any) -> Any:
    try:
        return dump(mode="json")
    except ValueError:
        return _UNKNOWN  # bytes that are no text, next to a part that Python's form leaves as it is


def _alone(value: Any) -> Any:
    """Return what pydantic writes for a value that belongs to no field; it has made the value, so it is loaded.

    Raises:
        ValueError: it cannot write it.
    """
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)
