"""kombu's extended types, and the Python objects that are written as something simpler."""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from tranship.envelope import Claim

TAG: Final = "__type__"
VALUE: Final = "__value__"
_KEYS: Final = {TAG, VALUE}


def _tagged(tag: str, value: Any) -> dict[str, Any]:
    return {TAG: tag, VALUE: value}


def _bytes(value: bytes | bytearray | memoryview) -> dict[str, Any]:
    data = bytes(value)
    try:
        return _tagged("bytes", data.decode("utf-8"))
    except UnicodeDecodeError:
        return _tagged("base64", base64.b64encode(data).decode("ascii"))


_WRITERS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (datetime, lambda value: _tagged("datetime", value.isoformat())),  # before date: it is one
    (date, lambda value: _tagged("date", value.isoformat())),
    (time, lambda value: _tagged("time", value.isoformat())),
    (Decimal, lambda value: _tagged("decimal", str(value))),
    (UUID, lambda value: _tagged("uuid", {"hex": value.hex})),
    ((bytes, bytearray, memoryview), _bytes),
    (Claim, lambda value: _tagged("tranship.claim", {"uri": value.uri, "size": value.size})),
    (enum.Enum, lambda value: value.value),
    (float, float),
    (tuple, list),
    (Mapping, dict),
)

_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda value: datetime.fromisoformat(value).date(),
    "time": time.fromisoformat,
    "decimal": lambda value: Decimal(_text(value)),
    # Older kombu also sends "version", which newer versions of UUID would be refused with.
    "uuid": lambda value: UUID(hex=_text(value["hex"])),
    "bytes": lambda value: _text(value).encode("utf-8"),
    # A reader that does not know it refuses the message, as Celery does, and does not run the task without arguments.
    "tranship.claim": lambda value: Claim(_text(value["uri"]), _count(value["size"])),
    "base64": lambda value: base64.b64decode(_text(value).encode("ascii")),
}


def plain(value: Any) -> Any:
    """Return ``value`` one step nearer to what a serialiser writes by itself.

    Raises:
        TypeError: there is no such step.
    """
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value)
    if isinstance(value, type):
        raise TypeError("a class")
    from tranship.codec._models import is_model, is_secret, model_data

    if is_model(value):
        return model_data(value)
    if is_dataclass(value):
        return {part.name: getattr(value, part.name) for part in fields(value)}
    if is_secret(value):
        return value.get_secret_value()
    raise TypeError(type(value).__qualname__)


def revive(value: dict[Any, Any]) -> Any:
    """Return the extended type that ``value`` stands for, or ``value`` itself.

    Raises:
        ValueError: an unknown extended type, or one with a wrong value.
    """
    if value.keys() != _KEYS:
        return value
    tag = value[TAG]
    read = _READERS.get(tag) if isinstance(tag, str) else None
    if read is None:
        raise ValueError("an extended type (__type__) that is unknown")
    try:
        return read(value[VALUE])
    except (ValueError, TypeError, LookupError, InvalidOperation, binascii.Error) as error:
        raise ValueError(f"an extended type {tag!r} with a wrong value") from error


def revive_known(value: dict[Any, Any]) -> Any:
    """As :func:`revive`, but leave alone what is no extended type after all (msgpack has none of its own)."""
    try:
        return revive(value)
    except ValueError:
        return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("no count")
    return value
