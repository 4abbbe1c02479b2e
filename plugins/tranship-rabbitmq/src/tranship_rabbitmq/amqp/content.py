"""The content header: a message's size and properties."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final

from tranship_rabbitmq.amqp.table import TableError, decode_table, encode_table, short_text

__all__ = ["NO_TABLE", "Properties", "content_header", "properties_of"]

NO_TABLE: Final = b"\0\0\0\0"
_BASIC: Final = 60
_HEAD: Final = struct.Struct(">HHQH")


@dataclass(slots=True)
class Properties:
    """The properties of a message, in the order of the wire; None: not there."""

    content_type: str | None = None
    content_encoding: str | None = None
    table: bytes | None = None
    """The headers, as they are on the wire."""
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: datetime | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None

    def headers(self) -> dict[str, Any]:
        """Return the headers.

        Raises:
            TableError: they cannot be read.
        """
        return decode_table(self.table)[0] if self.table else {}

    def with_headers(self, headers: Mapping[str, Any]) -> Properties:
        """Return the same properties with other headers.

        Raises:
            TableError: they cannot be written.
        """
        return replace(self, table=encode_table(headers))


_NAMES: Final = tuple(field.name for field in fields(Properties))
_OCTETS: Final = frozenset({"delivery_mode", "priority"})


def content_header(properties: Properties, size: int) -> bytes:
    """Return the payload of a header frame for a body of ``size`` bytes.

    Raises:
        TableError: a text is longer than 255 bytes.
    """
    flags, parts = 0, []
    for place, name in enumerate(_NAMES):
        value = getattr(properties, name)
        if value is not None:
            flags |= 1 << (15 - place)
            parts.append(_written(name, value))
    return _HEAD.pack(_BASIC, 0, size, flags) + b"".join(parts)


def properties_of(header: bytes) -> Properties:
    """Return the properties in the payload of a header frame.

    Raises:
        TableError: it cannot be read.
    """
    try:
        flags = _HEAD.unpack_from(header)[3]
        properties, at = Properties(), _HEAD.size
        for place, name in enumerate(_NAMES):
            if flags & 1 << (15 - place):
                value, at = _read(header, at, name)
                setattr(properties, name, value)
    except (struct.error, IndexError, OverflowError, OSError, ValueError) as error:
        raise TableError(f"a message's properties cannot be read: {error}") from error
    return properties


def _written(name: str, value: Any) -> bytes:
    if name == "table":
        return bytes(value)
    if name in _OCTETS:
        return bytes((value,))
    if name == "timestamp":
        return struct.pack(">Q", int(value.timestamp()))
    return short_text(value)


def _read(header: bytes, at: int, name: str) -> tuple[Any, int]:
    if name == "table":
        end = at + 4 + int.from_bytes(header[at : at + 4], "big")
        return header[at:end], end
    if name in _OCTETS:
        return header[at], at + 1
    if name == "timestamp":
        (seconds,) = struct.unpack_from(">Q", header, at)
        return datetime.fromtimestamp(seconds, UTC), at + 8
    end = at + 1 + header[at]
    return header[at + 1 : end].decode(errors="replace"), end
