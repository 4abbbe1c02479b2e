"""The decoder: whatever came from a broker becomes an envelope, or a MalformedMessage that says why not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from tranship import codec
from tranship.envelope import NO_HEADERS, Envelope, Priority
from tranship.errors import MalformedMessage
from tranship.protocol._envelope import envelope_of
from tranship.protocol._fields import Fields, has_text_keys, kind_of
from tranship.protocol._message import RawMessage
from tranship.protocol._protocol1 import is_protocol1, protocol2

__all__ = ["Limits", "TakesLong", "body_of", "decode", "decode_within", "parts_of"]


class TakesLong(Exception):
    """Decoding this message would keep an event loop busy; it is decoded by :func:`decode` in a thread."""


class Limits(NamedTuple):
    """How many bytes a body may have, packed or unpacked."""

    largest: int = codec.DEFAULT_LIMIT
    """More are refused."""
    prompt: int = sys.maxsize
    """More are left to a thread."""


def decode(raw: RawMessage, *, queue: str, priority: Priority, max_size: int = codec.DEFAULT_LIMIT) -> Envelope:
    """Return the envelope that ``raw`` holds; Celery's protocols 1 and 2 are read.

    Args:
        raw: the message.
        queue: where it was received.
        priority: the level it was received at; the message's own word for it comes first.
        max_size: the largest body in bytes, compressed or not.

    Raises:
        MalformedMessage: it cannot be decoded; ``task_id`` is set if the id could be. Nothing else,
            whatever the message.
    """
    return decode_within(raw, Limits(max_size), queue=queue, priority=priority)


def decode_within(raw: RawMessage, limits: Limits, *, queue: str, priority: Priority) -> Envelope:
    """As :func:`decode`.

    Raises:
        MalformedMessage: as there.
        TakesLong: it is larger than is decoded at once.
    """
    if raw.problem is not None:
        raise MalformedMessage(raw.problem, task_id=_id_in(raw))
    headers = _header_map(raw)
    if headers.get("task") is None:
        headers, body = _without_task(raw, headers, limits)
        fields = _identified("message", headers)
    else:
        fields = _identified("message header", headers)
        body = body_of(raw, fields, limits)
    return envelope_of(fields, parts_of(body, fields), raw=raw, queue=queue, priority=priority)


def _identified(part: str, headers: Mapping[str, Any]) -> Fields:
    fields = Fields(part, headers)
    fields.task_id = fields.name("id")
    fields.name("task")
    return fields


def _id_in(raw: RawMessage) -> str | None:
    """Return whose message it is, where that can be read: who waits is told."""
    try:
        return Fields("message header", _header_map(raw)).name("id")
    except MalformedMessage:
        return None


def _header_map(raw: RawMessage) -> Mapping[str, Any]:
    headers: Any = raw.headers
    if isinstance(headers, bytes | bytearray | str):
        try:
            headers = codec.loads(headers if isinstance(headers, str) else bytes(headers), codec.JSON)
        except MalformedMessage as error:
            raise MalformedMessage(f"message headers: {error}") from error
    if headers is None:
        return NO_HEADERS
    if not isinstance(headers, Mapping) or not has_text_keys(headers):
        raise MalformedMessage(f"message headers are {kind_of(headers)}; expected a map with text keys")
    return headers


def _without_task(raw: RawMessage, headers: Mapping[str, Any], limits: Limits) -> tuple[Mapping[str, Any], list[Any]]:
    """Read a message that has no ``task`` header: of protocol 1, or none at all."""
    try:
        body = body_of(raw, Fields("message header", headers), limits)
    except MalformedMessage as error:
        raise MalformedMessage(f"message header 'task' is missing, and {error}") from error
    if not is_protocol1(body):
        raise MalformedMessage("message header 'task' is missing; expected it there, or in a body of protocol 1")
    return protocol2(headers, body)


def body_of(raw: RawMessage, fields: Fields, limits: Limits) -> Any:
    """Return what the body holds.

    Raises:
        MalformedMessage: it cannot be unpacked or read.
        TakesLong: it is larger than is decoded at once.
    """
    try:
        content_type = codec.content_type_of(raw.content_type)
        return codec.loads(_unpacked(raw, fields, limits), content_type, raw.content_encoding)
    except MalformedMessage as error:
        raise MalformedMessage(f"message body: {error}", task_id=fields.task_id) from error


def _unpacked(raw: RawMessage, fields: Fields, limits: Limits) -> bytes:
    size = len(raw.body)
    if size > limits.largest:
        raise MalformedMessage(f"it has {size} bytes; expected at most {limits.largest} (max_message_size)")
    if size > limits.prompt:
        raise TakesLong
    compression = fields.text("compression")
    if not compression:
        return raw.body
    if limits.prompt >= limits.largest:
        return codec.decompress(raw.body, compression, limit=limits.largest)
    try:
        return codec.decompress(raw.body, compression, limit=limits.prompt)
    except codec.UnpacksToMore:
        # A few bytes can hold megabytes, and bzip2 unpacks 30 of them a second.
        raise TakesLong from None


def parts_of(body: Any, fields: Fields) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Return args, kwargs and embed.

    Raises:
        MalformedMessage: ``body`` is not these three.
    """
    if not isinstance(body, list) or len(body) != 3:
        raise MalformedMessage(
            f"message body is {kind_of(body)}; expected the list [args, kwargs, embed]", task_id=fields.task_id
        )
    args, kwargs, embed = body
    if not isinstance(args, list):
        raise MalformedMessage(f"message args are {kind_of(args)}; expected a list", task_id=fields.task_id)
    for name, part in (("kwargs", kwargs), ("embed", {} if embed is None else embed)):
        if not isinstance(part, dict) or not has_text_keys(part):
            raise MalformedMessage(
                f"message {name} are {kind_of(part)}; expected a map with text keys", task_id=fields.task_id
            )
    return args, kwargs, embed or {}
