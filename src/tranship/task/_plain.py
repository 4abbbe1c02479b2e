"""The reader without pydantic: plain types, their containers and dataclasses. What it does not know it leaves alone."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePath
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from tranship.errors import InvalidArgumentsError
from tranship.task._spans import span_of
from tranship.task._understood import is_typed_dict, keys_of

__all__ = ["PlainReader"]

_NUMBERS: Final[Mapping[Any, Callable[[Any], Any]]] = {int: int, float: float}
_TEXTS: Final[Mapping[Any, Callable[[str], Any]]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    timedelta: span_of,
    Decimal: Decimal,
    UUID: UUID,
    Path: Path,
    PurePath: PurePath,
}
"""What travels as itself, or as text from others."""
_SERIES: Final = (list, tuple, set, frozenset)


class PlainReader:
    """Reads plain types: numbers, text, dates, enums, lists, tuples, sets, dicts, unions, literals, dataclasses
    and typed dicts.

    Args:
        what: what is read, for errors.
        annotation: a type hint.
        strict: text is no number.
    """

    def __init__(self, what: str, annotation: Any, *, strict: bool = False) -> None:
        self.what = what
        self._annotation = annotation
        self._strict = strict

    def __call__(self, value: Any, /) -> Any:
        """Return what ``value`` stands for.

        Raises:
            InvalidArgumentsError: it is no such data; the message names the part and types, never the value.
        """
        try:
            return self._read(self._annotation, value, "")
        except _Unfit as error:
            raise InvalidArgumentsError(f"{self.what}: {error}") from None

    def _read(self, hint: Any, value: Any, path: str) -> Any:
        origin, inner = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return self._read(inner[0], value, path)
        if origin in (Union, types.UnionType):
            return self._read_union(inner, value, path)
        if origin is Literal:
            return _one_of(inner, value, path)
        return self._read_whole(origin or hint, inner, value, path)

    def _read_whole(self, kind: Any, inner: Sequence[Any], value: Any, path: str) -> Any:
        if kind in (*_SERIES, Sequence, Iterable):
            return self._read_series(kind if kind in _SERIES else list, inner, value, path)
        if kind in (dict, Mapping):
            return self._read_mapping(inner, value, path)
        if is_typed_dict(kind):
            return self._read_typed_dict(kind, value, path)
        if kind in (Any, object):
            return value
        if kind is None:
            return self._read_kind(type(None), value, path)
        return self._read_kind(kind, value, path) if isinstance(kind, type) else value

    def _read_union(self, members: Sequence[Any], value: Any, path: str) -> Any:
        exact = [one for one in members if isinstance(one, type) and type(value) is one]
        for member in [*exact, *members]:
            try:
                return self._read(member, value, path)
            except _Unfit:
                continue
        raise _Unfit(path, " or ".join(map(_name, members)), value)

    def _read_series(self, kind: Any, inner: Sequence[Any], value: Any, path: str) -> Any:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, _SERIES):
            raise _Unfit(path, _name(kind), value)
        if kind is tuple and inner and inner[-1] is not Ellipsis:
            if len(value) != len(inner):
                raise _Unfit(path, f"a tuple of {len(inner)}", value)
            return tuple(
                self._read(hint, one, _at(path, at)) for at, (hint, one) in enumerate(zip(inner, value, strict=True))
            )
        hint = inner[0] if inner else Any
        return kind(self._read(hint, one, _at(path, at)) for at, one in enumerate(value))

    def _read_mapping(self, inner: Sequence[Any], value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise _Unfit(path, "dict", value)
        if not inner:
            return value
        key, held = inner
        return {self._key(key, name, path): self._read(held, one, _at(path, name)) for name, one in value.items()}

    def _read_typed_dict(self, kind: Any, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise _Unfit(path, "dict", value)
        keys = keys_of(kind)
        for name, (_, needed) in keys.items():
            if needed and name not in value:
                raise _Unfit(_at(path, name), "a value", None)
        return {name: self._read(keys[name][0], one, _at(path, name)) for name, one in value.items() if name in keys}

    def _key(self, hint: Any, name: Any, path: str) -> Any:
        # JSON has made text of a number.
        if hint in _NUMBERS and isinstance(name, str):
            return self._converted(_NUMBERS[hint], hint, name, path)
        return self._read(hint, name, path)

    def _read_kind(self, kind: type, value: Any, path: str) -> Any:
        if kind in _NUMBERS:
            return value if type(value) is kind else self._read_number(kind, value, path)
        if isinstance(value, kind):
            return value
        if (isinstance(value, str) and kind in _TEXTS) or issubclass(kind, enum.Enum):
            return self._converted(_TEXTS.get(kind, kind), kind, value, path)
        if dataclasses.is_dataclass(kind):
            return self._read_dataclass(kind, value, path)
        if kind in (str, bool, bytes, type(None), *_TEXTS):
            raise _Unfit(path, _name(kind), value)
        return value

    def _read_number(self, kind: Any, value: Any, path: str) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if kind is float and whole:
            return float(value)
        convertible = isinstance(value, str | bool) or (isinstance(value, float) and value.is_integer())
        if self._strict or not convertible:
            raise _Unfit(path, _name(kind), value)
        return self._converted(kind, kind, value, path)

    def _converted(self, convert: Callable[[Any], Any], kind: Any, value: Any, path: str) -> Any:
        try:
            return convert(value)
        except (ValueError, TypeError, InvalidOperation):
            raise _Unfit(path, _name(kind), value) from None

    def _read_dataclass(self, kind: Any, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise _Unfit(path, f"{_name(kind)}, or a dict of its fields", value)
        hints = get_type_hints(kind, include_extras=True)
        parts = {one.name: one for one in dataclasses.fields(kind) if one.init}
        for part in parts.values():
            needed = part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING
            if needed and part.name not in value:
                raise _Unfit(_at(path, part.name), "a value", None)
        given = {name: self._read(hints[name], one, _at(path, name)) for name, one in value.items() if name in parts}
        return kind(**given)


class _Unfit(Exception):
    """A part is not what it should be."""

    def __init__(self, path: str, expected: str, value: Any) -> None:
        got = "None" if value is None else type(value).__qualname__
        super().__init__(f"{f'{path}: ' if path else ''}expected {expected}, got {got}")


def _one_of(known: Sequence[Any], value: Any, path: str) -> Any:
    if not any(value == one and type(value) is type(one) for one in known):
        raise _Unfit(path, f"one of {', '.join(map(repr, known))}", value)
    return value


def _at(path: str, step: Any) -> str:
    return f"{path}.{step}" if path else str(step)


def _name(hint: Any) -> str:
    return "None" if hint in (None, type(None)) else getattr(hint, "__qualname__", str(hint))
