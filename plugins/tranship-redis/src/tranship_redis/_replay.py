"""A dead letter becomes a message again: complete, or not at all."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import orjson

from tranship import codec
from tranship.errors import EncodeError, MalformedMessage
from tranship.protocol import RawMessage, decode, restarted
from tranship_redis._element import quoted, read
from tranship_redis._entry import Entry
from tranship_redis._levels import Levels

__all__ = ["rebuilt"]


def rebuilt(entry: Entry, levels: Levels, *, tag: bytes, timestamp: float) -> tuple[str, bytes]:
    """Return the task id of a dead letter, and the list element that queues it as if it were new.

    What was verified is what is sent: the element is written anew from what was read, so that nothing in it
    can trip a Celery worker, of which incomplete messages are the death.

    Args:
        entry: the dead letter.
        levels: says what its step means.
        tag: a fresh delivery tag; the old one may live on somewhere.
        timestamp: now, in epoch seconds.

    Raises:
        MalformedMessage: it is not a complete message.
    """
    if entry.omitted:
        raise MalformedMessage(f"it has {entry.omitted} bytes, too many to be read back")
    raw = read(entry.element)
    envelope = decode(raw, queue=entry.queue, priority=levels.priority(entry.step))
    content_type = raw.content_type or codec.JSON
    encoding = raw.content_encoding or codec.content_encoding_of(codec.content_type_of(content_type))
    properties = {
        "correlation_id": envelope.id,
        "reply_to": envelope.reply_to,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": entry.queue},
        "priority": entry.step,
        "body_encoding": "base64",
        "delivery_tag": tag.decode(),
        "timestamp": timestamp,
    }
    element = b'{"body":"%b","content-encoding":%b,"content-type":%b,"headers":%b,"properties":%b}' % (
        base64.b64encode(raw.body),
        quoted(encoding),
        quoted(content_type),
        _headers(raw),
        _written(properties),
    )
    return envelope.id, element


def _headers(raw: RawMessage) -> bytes:
    found = raw.headers if isinstance(raw.headers, Mapping) else codec.loads(raw.headers, codec.JSON)
    # Celery marks what it restores, and a message that starts over has never been delivered.
    headers = {name: value for name, value in (found or {}).items() if name != "redelivered"}
    return restarted(_written(headers))


def _written(value: object) -> bytes:
    try:
        return orjson.dumps(value) if not isinstance(value, Mapping) else codec.dumps(value)
    except EncodeError as error:
        raise MalformedMessage(f"message headers cannot be written again: {error}") from error
