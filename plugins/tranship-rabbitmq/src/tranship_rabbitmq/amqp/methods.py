"""The methods that our channels use: their numbers, and what stands in them.

Not the client library's: it ends the connection over a text that is no UTF-8, and RabbitMQ cuts the reasons of its
errors after 252 bytes, be it within a letter.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship_rabbitmq.amqp.table import TableError, decode_table, encode_table, short_text

__all__ = ["Method", "pack", "unpack"]

_NUMBERS: Final[Mapping[str, struct.Struct]] = {
    "octet": struct.Struct(">B"),
    "short": struct.Struct(">H"),
    "long": struct.Struct(">I"),
    "longlong": struct.Struct(">Q"),
}

# One line per method: class, method, the types of its arguments. Bits that follow each other share an octet.
_TEXT: Final = """
connection.tune       10 30  short long short
connection.close      10 50  short shortstr short short
connection.close-ok   10 51
connection.blocked    10 60  shortstr
connection.unblocked  10 61
channel.open          20 10  shortstr
channel.open-ok       20 11  longstr
channel.flow          20 20  bit
channel.flow-ok       20 21  bit
channel.close         20 40  short shortstr short short
channel.close-ok      20 41
exchange.declare      40 10  short shortstr shortstr bit bit bit bit bit table
exchange.declare-ok   40 11
exchange.delete       40 20  short shortstr bit bit
exchange.delete-ok    40 21
exchange.bind         40 30  short shortstr shortstr shortstr bit table
exchange.bind-ok      40 31
queue.declare         50 10  short shortstr bit bit bit bit bit table
queue.declare-ok      50 11  shortstr long long
queue.bind            50 20  short shortstr shortstr shortstr bit table
queue.bind-ok         50 21
queue.unbind          50 50  short shortstr shortstr shortstr table
queue.unbind-ok       50 51
queue.purge           50 30  short shortstr bit
queue.purge-ok        50 31  long
queue.delete          50 40  short shortstr bit bit bit
queue.delete-ok       50 41  long
basic.qos             60 10  long short bit
basic.qos-ok          60 11
basic.consume         60 20  short shortstr shortstr bit bit bit bit table
basic.consume-ok      60 21  shortstr
basic.cancel          60 30  shortstr bit
basic.cancel-ok       60 31  shortstr
basic.publish         60 40  short shortstr shortstr bit bit
basic.return          60 50  short shortstr shortstr shortstr
basic.deliver         60 60  shortstr longlong bit shortstr shortstr
basic.get             60 70  short shortstr bit
basic.get-ok          60 71  longlong bit shortstr shortstr long
basic.get-empty       60 72  shortstr
basic.ack             60 80  longlong bit
basic.nack            60 120 longlong bit bit
confirm.select        85 10  bit
confirm.select-ok     85 11
"""


@dataclass(frozen=True, slots=True)
class Method:
    """A method that came: its name, such as ``"queue.declare-ok"``, and its arguments in order."""

    name: str
    arguments: Sequence[Any] = ()


_METHODS: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = {
    words[0]: (int(words[1]) << 16 | int(words[2]), tuple(words[3:]))
    for words in (line.split() for line in _TEXT.strip().splitlines())
}
_NAMES: Final[Mapping[int, str]] = {number: name for name, (number, _) in _METHODS.items()}


def pack(name: str, *arguments: Any) -> bytes:
    """Return the payload of a method frame.

    Raises:
        TableError: an argument cannot be written, such as a name of more than 255 bytes.
    """
    number, kinds = _METHODS[name]
    parts = [struct.pack(">I", number)]
    bits: list[bool] = []
    for kind, argument in zip(kinds, arguments, strict=True):
        if kind == "bit":
            bits.append(argument)
            continue
        parts += [_octet(bits), _packed(kind, argument)]
        bits = []
    return b"".join([*parts, _octet(bits)])


def unpack(payload: bytes) -> Method:
    """Return the method in a frame's payload.

    Raises:
        TableError: it is none that is known.
    """
    try:
        (number,) = struct.unpack_from(">I", payload)
        name = _NAMES[number]
        return Method(name, _arguments(payload, _METHODS[name][1]))
    except (struct.error, KeyError, IndexError) as error:
        raise TableError(f"a method frame cannot be read: {error!r}") from error


def _octet(bits: Sequence[bool]) -> bytes:
    return bytes((sum(1 << place for place, bit in enumerate(bits) if bit),)) if bits else b""


def _packed(kind: str, argument: Any) -> bytes:
    if kind == "shortstr":
        return short_text(argument)
    if kind == "table":
        return encode_table(argument)
    if kind == "longstr":
        return struct.pack(">I", len(argument)) + bytes(argument)
    return _NUMBERS[kind].pack(argument)


def _arguments(payload: bytes, kinds: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    at, bit = 4, 0
    for kind in kinds:
        if kind == "bit":
            # The octet of the bits before is left behind by whatever follows them.
            found.append(bool(payload[at] >> bit & 1))
            bit += 1
            continue
        value, at = _unpacked(payload, at + bool(bit), kind)
        bit = 0
        found.append(value)
    return found


def _unpacked(payload: bytes, at: int, kind: str) -> tuple[Any, int]:
    if kind == "shortstr":
        end = at + 1 + payload[at]
        return payload[at + 1 : end].decode(errors="replace"), end
    if kind == "table":
        return decode_table(payload, at)
    if kind == "longstr":
        (size,) = struct.unpack_from(">I", payload, at)
        return payload[at + 4 : at + 4 + size], at + 4 + size
    number = _NUMBERS[kind]
    return number.unpack_from(payload, at)[0], at + number.size
