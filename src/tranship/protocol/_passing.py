"""A received message on its way to another broker: what was read is sent, byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from tranship import codec
from tranship.envelope import Envelope, Priority
from tranship.errors import EncodeError, MalformedMessage
from tranship.protocol._decode import decode
from tranship.protocol._headers import MAX_NAME, TRANSIENT
from tranship.protocol._message import Message, RawMessage

__all__ = ["pass_on"]

_UNREADABLE: Final = "tranship.unreadable"
"""The task's name in an envelope that stands for a message nobody can decode; it does not travel."""


def pass_on(raw: RawMessage, *, queue: str, priority: Priority) -> Message:
    """Return ``raw`` as a message for another broker: its headers and body as they are, next to its envelope.

    A message that cannot be decoded is passed on as well, as long as it has a header map, which is what every
    broker needs; its envelope then has no more than an id and its place.

    Raises:
        MalformedMessage: it has no header map, or one that JSON cannot carry.
    """
    headers = _header_bytes(raw)
    content_type = raw.content_type or codec.JSON
    encoding = raw.content_encoding or codec.content_encoding_of(content_type)
    try:
        envelope = decode(raw, queue=queue, priority=priority)
    except MalformedMessage as error:
        envelope = _stand_in(raw, headers, error, queue, priority)
    return Message(envelope, headers, raw.body, content_type, encoding)


def _header_bytes(raw: RawMessage) -> bytes:
    headers = raw.headers
    # Looked at in any case: what is no object in JSON would break the message that it is put into.
    values = _map_of(headers)
    if isinstance(headers, bytes) and _LEFT_BEHIND.isdisjoint(values):
        return headers
    kept = {name: value for name, value in values.items() if name not in _LEFT_BEHIND}
    try:
        return codec.dumps(kept, codec.JSON)
    except EncodeError as error:
        raise MalformedMessage(f"message headers cannot be written as JSON: {error}") from error


_LEFT_BEHIND: Final = TRANSIENT - {"compression"}
"""The body stays as it is, compressed or not."""


def _map_of(headers: Any) -> Mapping[str, Any]:
    if isinstance(headers, bytes):
        headers = codec.loads(headers, codec.JSON)
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise MalformedMessage("message headers are no map; no broker could carry them")
    return headers


def _stand_in(raw: RawMessage, headers: bytes, error: MalformedMessage, queue: str, priority: Priority) -> Envelope:
    """The same message gets the same id each time, so that a second copy is recognised."""
    task_id = error.task_id
    if not task_id or len(task_id) > MAX_NAME:
        task_id = "unreadable-" + hashlib.sha256(headers + b"\0" + raw.body).hexdigest()[:32]
    reply_to = raw.properties.get("reply_to") if raw.properties else None
    address = reply_to if isinstance(reply_to, str) else None
    return Envelope(id=task_id, task=_UNREADABLE, queue=queue, priority=priority, reply_to=address)
