"""Celery's messages: ours as kombu writes them, and what kombu reads as the core has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tranship.driver import Outgoing, headers_bytes
from tranship.envelope import Priority
from tranship.errors import MalformedMessage
from tranship.protocol import RawMessage

__all__ = ["STEPS", "level_at", "level_of", "prepared", "read", "undecompressed"]

_PACKED: Final = "compression"
STEPS: Final = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 6, Priority.VERY_LOW: 9}
"""Our levels as Celery's ``priority_steps`` on Redis; a smaller one is served first."""


def prepared(channel: Any, outgoing: Outgoing, *, levels: bool, amqp: bool) -> Any:
    """Return a message as the channel publishes it.

    Raises:
        MalformedMessage: its headers are none: they were not written by us.
    """
    raw = outgoing.message
    properties = {
        "correlation_id": outgoing.id,
        "reply_to": raw.properties.get("reply_to"),
        "delivery_mode": 2,
    }
    if amqp:
        properties = {name: value for name, value in properties.items() if value is not None}
    return channel.prepare_message(
        bytes(raw.body),
        priority=STEPS[outgoing.level] if levels else 0,
        content_type=raw.content_type,
        content_encoding=raw.content_encoding,
        headers=_headers(raw, outgoing.id),
        properties=properties,
    )


def _headers(raw: RawMessage, task_id: str) -> dict[str, Any]:
    try:
        found = json.loads(headers_bytes(raw))
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"its headers are no JSON: {error}", task_id=task_id) from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise MalformedMessage(f"its headers are a {type(found).__name__}; expected a map", task_id=task_id)
    return found


def undecompressed(kind: type[Any]) -> type[Any]:
    """Return a class of messages that leaves a compressed body as it is: kombu unpacks it, whatever it comes to."""

    class Message(kind):  # type: ignore[misc]  # kombu has no types
        def __init__(self, raw: Any, *arguments: Any, **named: Any) -> None:
            headers = _headers_of(raw)
            packed = headers.pop(_PACKED, None) if headers else None
            super().__init__(raw, *arguments, **named)
            if packed is not None:
                self.headers[_PACKED] = packed

        def serializable(self) -> Any:
            # kombu's takes the header away, as its body is unpacked.
            made = super().serializable()
            if _PACKED in self.headers:
                made["headers"][_PACKED] = self.headers[_PACKED]
            return made

    return Message


def _headers_of(raw: Any) -> Any:
    """The headers in what a transport has got: an envelope of kombu's, or a message of py-amqp's."""
    found = raw.get("headers") if isinstance(raw, dict) else raw.properties.get("application_headers")
    return found if isinstance(found, dict) else None


def read(message: Any) -> RawMessage:
    """Return what kombu has read, whoever wrote it."""
    properties = message.properties if isinstance(message.properties, Mapping) else {}
    headers = message.headers
    return RawMessage(
        headers if isinstance(headers, Mapping) else {},
        _body(message.body),
        _text(message.content_type),
        _text(message.content_encoding),
        {name: _text(properties.get(name)) for name in ("reply_to", "correlation_id")},
    )


def level_of(message: Any) -> Priority:
    """Return the level of a message from the step that it travelled at."""
    properties = message.properties if isinstance(message.properties, Mapping) else {}
    given = properties.get("priority")
    return level_at(given if isinstance(given, int) else 0)


def level_at(step: int) -> Priority:
    """Return the level that travels at a step; kombu's rule between the steps."""
    return next((level for level, one in reversed(STEPS.items()) if one <= step), Priority.HIGH)


def _body(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    return b"" if body is None else json.dumps(body).encode()


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
