"""What is sent in place of an argument: data that the worker's reader makes the same value of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Final

from tranship import codec
from tranship.errors import InvalidArgumentsError
from tranship.task._readback import difference
from tranship.task._readers import Read
from tranship.task._spans import span_text

__all__ = ["plain_parts", "written"]

_ADVICE: Final = (
    "Give the model a serializer and a validator that fit each other, or send plain data (model.model_dump(...))"
)


def written(value: Any, read: Read) -> Any:
    """Return the data that is sent in place of the models in ``value``; itself where there are none.

    Args:
        value: an argument.
        read: the worker's reader of it.

    Raises:
        InvalidArgumentsError: it does not fit; or a model that its own reader would refuse, or change.
    """
    problems = []
    for by_alias in (False, True):
        try:
            data = codec.data_of(value, by_alias=by_alias)
        except Exception:  # noqa: BLE001 - a serializer of the user's own may raise anything
            return value  # the codec meets it as well, and says which part it is
        if data is value:
            _check(value, read)  # no model: the caller's own data
            return value
        problem = _problem(read, value, data)
        if problem is None:
            return data
        problems.append(problem)
    raise InvalidArgumentsError(f"{problems[0]}; nothing was sent. {_ADVICE}")


def plain_parts(value: Any) -> Any:
    """Return ``value`` with what the codec refuses in a form that an annotation brings back."""
    if isinstance(value, set | frozenset):
        return [plain_parts(one) for one in value]
    if isinstance(value, timedelta):
        return span_text(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain_parts(one) for one in value]
    if isinstance(value, Mapping):
        return {name: plain_parts(one) for name, one in value.items()}
    return value


def _check(value: Any, read: Read) -> None:
    try:
        read(value)
    except InvalidArgumentsError as error:
        raise InvalidArgumentsError(f"{error}; nothing was sent") from error


def _problem(read: Read, value: Any, data: Any) -> str | None:
    """Return why ``data``, written of ``value``, cannot be sent in its place, or None."""
    try:
        back = read(data)
    except InvalidArgumentsError as error:
        return f"{error}: so says its reader of what is written of a {type(value).__name__}"
    where = difference(value, back)
    return None if where is None else f"{read.what}: {where}"
