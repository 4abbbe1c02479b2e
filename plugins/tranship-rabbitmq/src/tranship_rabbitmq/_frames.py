"""Messages to frames: built from parts that messages of one kind share."""

from __future__ import annotations

import struct
from typing import Final

from tranship.driver import Outgoing
from tranship.errors import EncodeError, MessageTooLarge
from tranship_rabbitmq._tables import Tables
from tranship_rabbitmq.amqp.content import Properties, content_header
from tranship_rabbitmq.amqp.methods import pack
from tranship_rabbitmq.amqp.table import TableError, short_text
from tranship_rabbitmq.amqp.wire import FRAME_END, FRAME_OVERHEAD

__all__ = ["PERSISTENT", "TRANSIENT", "Frames", "frames_of"]

TRANSIENT: Final = 1
PERSISTENT: Final = 2

_KEPT: Final = 1024
_HEAD: Final = struct.Struct(">BHI")
_CONTENT: Final = struct.Struct(">HHQH")
# Always there: headers, delivery mode, priority, and the correlation id where AMQP can carry it.
_FLAGS: Final = 0b0011_1100_0000_0000
_CONTENT_TYPE: Final = 0b1000_0000_0000_0000
_ENCODING: Final = 0b0100_0000_0000_0000
_REPLY_TO: Final = 0b0000_0010_0000_0000
_CORRELATION: Final = 0b0000_0100_0000_0000
_Kind = tuple[str | None, str | None, str | None]
"""Content type, content encoding, and where the result goes."""


class Frames:
    """Makes the frames of tasks; remembers what messages of one kind share. One per channel.

    Args:
        number: the channel's.
        frame_max: the largest frame.
        tables: turns header maps into tables.
    """

    def __init__(self, number: int, frame_max: int, tables: Tables) -> None:
        self._number = number
        self._room = frame_max - FRAME_OVERHEAD
        self._tables = tables
        self._publishes: dict[tuple[str, str], bytes] = {}
        self._ends: dict[_Kind, tuple[int, bytes, bytes]] = {}

    def of(self, message: Outgoing, key: str, number: int, exchange: str = "") -> bytes:
        """Return all frames of ``message``.

        Args:
            message: what to send.
            key: the routing key: for the default exchange, the queue's name on the server.
            number: its priority there.
            exchange: where it is published.

        Raises:
            EncodeError: a header that AMQP cannot carry.
            MessageTooLarge: the headers do not fit into one frame.
        """
        source, task_id = message.source, message.id
        try:
            table = self._tables.of(source, task_id)
            kind = source.content_type, source.content_encoding, message.facts.reply_to
            flags, before, after = self._ends.get(kind) or self._keep(kind)
            own = task_id.encode()
        except (TableError, UnicodeEncodeError) as error:
            raise EncodeError(f"headers: {error}", task_id=task_id) from error
        known = b"%c%b" % (min(len(own), 255), own)
        if len(own) > 255:
            # Celery then goes by the id in the document.
            known, flags = b"", flags & ~_CORRELATION
        header = b"%b%b%b\2%c%b%b" % (
            _CONTENT.pack(60, 0, len(source.body), flags), before, table, number, known, after,
        )  # fmt: skip
        if len(header) > self._room:
            raise _too_long(message, len(header), self._room)
        publish = self._publishes.get((exchange, key)) or self._publish(exchange, key)
        return _joined(self._number, publish, header, source.body, self._room)

    def _keep(self, kind: _Kind) -> tuple[int, bytes, bytes]:
        if len(self._ends) >= _KEPT:
            self._ends.clear()
        content_type, encoding, reply_to = kind
        flags, before = _FLAGS, b""
        for bit, text in ((_CONTENT_TYPE, content_type), (_ENCODING, encoding)):
            flags, before = (flags, before) if text is None else (flags | bit, before + short_text(text))
        after = b"" if reply_to is None else short_text(reply_to)
        self._ends[kind] = flags | (0 if reply_to is None else _REPLY_TO), before, after
        return self._ends[kind]

    def _publish(self, exchange: str, key: str) -> bytes:
        if len(self._publishes) >= _KEPT:
            self._publishes.clear()
        frame = _frame(1, self._number, pack("basic.publish", 0, exchange, key, True, False))
        self._publishes[exchange, key] = frame
        return frame


def frames_of(
    number: int,
    frame_max: int,
    properties: Properties,
    body: bytes,
    *,
    routing_key: str,
    exchange: str = "",
    mandatory: bool = True,
) -> bytes:
    """Return all frames of any message.

    Raises:
        EncodeError: a text that is too long for AMQP.
        MessageTooLarge: the headers do not fit into one frame.
    """
    room = frame_max - FRAME_OVERHEAD
    try:
        publish = pack("basic.publish", 0, exchange, routing_key, mandatory, False)
        header = content_header(properties, len(body))
    except TableError as error:
        raise EncodeError(f"headers: {error}") from error
    if len(header) > room:
        raise MessageTooLarge(f"headers of {len(header):,} bytes; the limit is {room:,}", size=len(header), limit=room)
    return _joined(number, _frame(1, number, publish), header, body, room)


def _joined(number: int, publish: bytes, header: bytes, body: bytes, room: int) -> bytes:
    head = publish + _frame(2, number, header)
    if len(body) <= room:
        return head + _frame(3, number, body) if body else head
    pieces = [_frame(3, number, body[start : start + room]) for start in range(0, len(body), room)]
    return b"".join([head, *pieces])


def _frame(kind: int, number: int, payload: bytes) -> bytes:
    return _HEAD.pack(kind, number, len(payload)) + payload + FRAME_END


def _too_long(message: Outgoing, size: int, limit: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"task {message.facts.task!r} has headers of {size:,} bytes; RabbitMQ takes at most {limit:,} in all of "
        "them together: pass large values as arguments instead",
        size=size,
        limit=limit,
        task_id=message.id,
    )
