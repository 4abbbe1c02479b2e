"""Field tables: Python values to AMQP's typed values and back, with the types Celery's client writes.

Numbers with a fraction travel as 64 bits: an epoch time in 32 bits would be two minutes off.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any, Final

__all__ = ["MAX_NAME", "TableError", "decode_table", "encode_table", "extended", "short_text"]

MAX_NAME: Final = 128
"""The longest name of a field, in characters: AMQP's limit."""
_DEPTH: Final = 64
"""Nested maps and lists; what is deeper is nobody's honest message."""


class TableError(ValueError):
    """A value that a table cannot carry, or bytes that are no table."""


_INT: Final = struct.Struct(">ci")
_LONG: Final = struct.Struct(">cq")
_DOUBLE: Final = struct.Struct(">cd")
_SIZED: Final = struct.Struct(">cI")
_SIZE: Final = struct.Struct(">I")


def encode_table(values: Mapping[str, Any], depth: int = 0) -> bytes:
    """Return ``values`` as a table, its length in front, in their order.

    Raises:
        TableError: a name is too long, or a value is none that a table can carry.
    """
    parts = []
    for name, value in values.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise TableError(f"the name {str(name)[:60]!r} has {len(str(name))} characters; expected 1 to {MAX_NAME}")
        parts += [short_text(name), _value(value, depth)]
    data = b"".join(parts)
    return _SIZE.pack(len(data)) + data


def extended(table: bytes, values: Mapping[str, Any]) -> bytes:
    """Return ``table`` as it is, with more fields behind its own: the last one of a name counts.

    Raises:
        TableError: a name is too long, or a value is none that a table can carry.
    """
    fields = table[_SIZE.size :] + encode_table(values)[_SIZE.size :]
    return _SIZE.pack(len(fields)) + fields


def short_text(text: str) -> bytes:
    """Return ``text`` as a short string.

    Raises:
        TableError: it is longer than 255 bytes, or no text that UTF-8 can carry.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise TableError(f"the text {text[:60]!r} holds half a character") from None
    if len(data) > 255:
        raise TableError(f"the text {text[:60]!r}... has {len(data)} bytes; expected at most 255")
    return bytes((len(data),)) + data


def _value(value: Any, depth: int) -> bytes:
    encode = _ENCODERS.get(type(value))
    if encode is None:
        raise TableError(f"a value of type {type(value).__name__} cannot travel in a header")
    if depth > _DEPTH:
        raise TableError(f"maps and lists are nested deeper than {_DEPTH}")
    return encode(value, depth)


def _integer(value: int, _depth: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return _INT.pack(b"I", value)
    try:
        return _LONG.pack(b"l", value)
    except struct.error:
        raise TableError(f"the number {str(value)[:60]} has more than 64 bits") from None


def _fraction(value: float, _depth: int) -> bytes:
    if not isfinite(value):
        # The server would end the connection over it.
        raise TableError(f"the number {value} cannot travel in a header")
    return _DOUBLE.pack(b"d", value)


def _text(value: str, _depth: int) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise TableError(f"the text {value[:60]!r} holds half a character") from None
    return _SIZED.pack(b"S", len(data)) + data


def _list(value: list[Any], depth: int) -> bytes:
    data = b"".join(_value(one, depth + 1) for one in value)
    return _SIZED.pack(b"A", len(data)) + data


def _decimal(value: Decimal, _depth: int) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or not -255 <= exponent <= 0 or len(digits) > 9:
        raise TableError(f"the number {value} cannot travel as a decimal")
    number = int("".join(map(str, digits)))
    return struct.pack(">cBi", b"D", -exponent, -number if sign else number)


_ENCODERS: Final[Mapping[type, Callable[[Any, int], bytes]]] = {
    str: _text,
    type(None): lambda _value, _depth: b"V",
    bool: lambda value, _depth: b"t\1" if value else b"t\0",
    int: _integer,
    float: _fraction,
    dict: lambda value, depth: b"F" + encode_table(value, depth + 1),
    list: _list,
    tuple: _list,
    bytes: lambda value, _depth: _SIZED.pack(b"x", len(value)) + value,
    datetime: lambda value, _depth: struct.pack(">cQ", b"T", int(value.timestamp())),
    Decimal: _decimal,
}


def decode_table(data: bytes, start: int = 0, depth: int = 0) -> tuple[dict[str, Any], int]:
    """Return the table at ``start``, and where it ends. Of two fields of one name the last one counts.

    Raises:
        TableError: there is no table.
    """
    try:
        (size,) = _SIZE.unpack_from(data, start)
        at, end = start + 4, start + 4 + size
        values: dict[str, Any] = {}
        while at < end:
            length = data[at]
            name = data[at + 1 : at + 1 + length].decode(errors="replace")
            values[name], at = _read(data, at + 1 + length, depth)
    except (struct.error, IndexError, ValueError, OverflowError, OSError) as error:
        raise error if isinstance(error, TableError) else TableError(f"no field table: {error}") from error
    if at != end or end > len(data):
        raise TableError("a field table is not as long as it says")
    return values, end


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    kind = data[at]
    fixed = _FIXED.get(kind)
    if fixed is not None:
        (value,) = fixed.unpack_from(data, at + 1)
        return value, at + 1 + fixed.size
    reader = _READERS.get(kind)
    if reader is None:
        raise TableError(f"a field table has a value of the unknown type {chr(kind)!r}")
    if depth > _DEPTH:
        raise TableError(f"maps and lists are nested deeper than {_DEPTH}")
    return reader(data, at + 1, depth)


def _read_text(data: bytes, at: int, _depth: int) -> tuple[Any, int]:
    value, end = _read_bytes(data, at, _depth)
    return value.decode(errors="replace"), end


def _read_bytes(data: bytes, at: int, _depth: int) -> tuple[bytes, int]:
    (size,) = _SIZE.unpack_from(data, at)
    end = at + 4 + size
    if end > len(data):
        raise TableError("a text in a field table is cut off")
    return data[at + 4 : end], end


def _read_list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    (size,) = _SIZE.unpack_from(data, at)
    at, end = at + 4, at + 4 + size
    values = []
    while at < end:
        value, at = _read(data, at, depth + 1)
        values.append(value)
    if at != end:
        raise TableError("a list in a field table is not as long as it says")
    return values, end


def _read_decimal(data: bytes, at: int, _depth: int) -> tuple[Decimal, int]:
    scale, number = struct.unpack_from(">Bi", data, at)
    return Decimal(number).scaleb(-scale), at + 5


def _read_moment(data: bytes, at: int, _depth: int) -> tuple[datetime, int]:
    (seconds,) = struct.unpack_from(">Q", data, at)
    return datetime.fromtimestamp(seconds, UTC), at + 8


# RabbitMQ's own letters, which differ from the specification's.
_FIXED: Final[Mapping[int, struct.Struct]] = {
    ord(letter): struct.Struct(code)
    for letter, code in {
        "t": ">?", "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
        "f": ">f", "d": ">d",
    }.items()
}  # fmt: skip
_READERS: Final[Mapping[int, Callable[[bytes, int, int], tuple[Any, int]]]] = {
    ord("V"): lambda _data, at, _depth: (None, at),
    ord("S"): _read_text,
    ord("x"): _read_bytes,
    ord("F"): lambda data, at, depth: decode_table(data, at, depth + 1),
    ord("A"): _read_list,
    ord("D"): _read_decimal,
    ord("T"): _read_moment,
}
