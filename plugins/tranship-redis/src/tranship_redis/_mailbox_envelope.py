"""Celery's remote control on the wire: what is broadcast to all workers, and what they answer.

A broadcast is a message like a task's, published on one channel: its body says which method, with which
arguments, for whom, and where an answer goes. Nothing here does I/O.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Final
from uuid import uuid4

from tranship import codec
from tranship.errors import EncodeError, MalformedMessage

__all__ = ["MAILBOX", "Broadcast", "ReplyTo", "broadcast_of", "reply_message", "revoke_message"]

MAILBOX: Final = "celery.pidbox"
"""Celery's exchange for remote control."""

_REPLIES: Final = re.compile(r"reply\..+\.pidbox")
_OURS: Final = "tranship-signal"
"""Header of what we broadcast beside a signal of our own, which our listeners have heard already."""
_LARGEST_CLOCK: Final = 2**53
_TRANSIENT: Final = 1
_PERSISTENT: Final = 2
_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of a broadcast's body; fifty thousand revoked ids, all that Celery remembers, are two million."""


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where an answer goes."""

    exchange: str
    routing_key: str
    ticket: str | None

    @property
    def queue(self) -> str:
        """The list the asker reads."""
        return f"{self.routing_key}.{self.exchange}"


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One broadcast as it was read."""

    method: str
    arguments: Mapping[str, Any]
    destination: Sequence[str]
    """Names of the nodes it is for; empty: see ``pattern``."""
    pattern: str | None
    """Which node names it is for, in the language ``matcher``; None: all."""
    matcher: str | None
    reply_to: ReplyTo | None
    content_type: str
    """What an answer has to be written in: askers read what they write."""
    clock: int
    ours: bool
    """Broadcast by tranship, beside a signal on our own channel."""

    def is_for(self, node: str) -> bool:
        """Whether ``node`` is meant; by Celery's rules, in Celery's order."""
        if self.destination:
            return node in self.destination
        if self.pattern and self.matcher:
            return _matches(node, self.pattern, self.matcher)
        return True


def broadcast_of(payload: bytes) -> Broadcast:
    """Return the broadcast in ``payload``, as it came from the channel.

    Raises:
        MalformedMessage: it is none. Nothing else, whatever the bytes.
    """
    message = _map(codec.loads(payload, codec.JSON), "broadcast")
    headers = _map(message.get("headers") or {}, "broadcast's headers")
    content_type = codec.content_type_of(message.get("content-type"))
    body = _map(_body(message, headers, content_type), "broadcast's body")
    method = body.get("method")
    if not isinstance(method, str):
        raise MalformedMessage(f"broadcast's method is {type(method).__name__}; expected text")
    return Broadcast(
        method=method,
        arguments=_map(body.get("arguments") or {}, "broadcast's arguments"),
        destination=_names(body.get("destination")),
        pattern=_text(body.get("pattern")),
        matcher=_text(body.get("matcher")),
        reply_to=_reply_to(body),
        content_type=content_type,
        clock=_clock(headers.get("clock")),
        ours=bool(headers.get(_OURS)),
    )


def revoke_message(ids: Sequence[str], *, clock: int) -> bytes:
    """Return the broadcast with which Celery's own ``app.control.revoke(ids)`` tells its workers.

    Workers drop the tasks instead of starting them; what runs already is left alone.

    Raises:
        EncodeError: an id is no text that JSON can carry.
    """
    body = {
        "method": "revoke",
        # One id on its own is what Celery sends, and the only form its oldest workers read.
        "arguments": {"task_id": ids[0] if len(ids) == 1 else list(ids), "terminate": False, "signal": "SIGTERM"},
        "destination": None,
        "pattern": None,
        "matcher": None,
    }
    headers = {"clock": clock, "expires": 0, _OURS: True}
    return _message(body, codec.JSON, headers, _properties(_PERSISTENT, MAILBOX, ""))


def reply_message(node: str, answer: Any, asked: Broadcast, *, clock: int) -> bytes:
    """Return the list element with which ``node`` answers ``asked``.

    Raises:
        EncodeError: the answer cannot be written.
    """
    assert asked.reply_to is not None
    to = asked.reply_to
    headers = {"ticket": to.ticket, "clock": clock}
    properties = _properties(_TRANSIENT, to.exchange, to.routing_key)
    return _message({node: answer}, asked.content_type, headers, properties)


def _message(body: Any, content_type: str, headers: dict[str, Any], properties: dict[str, Any]) -> bytes:
    text = base64.b64encode(codec.dumps(body, content_type, name="body")).decode()
    message = {
        "body": text,
        "content-encoding": codec.content_encoding_of(content_type),
        "content-type": content_type,
        "headers": headers,
        "properties": properties,
    }
    try:
        return json.dumps(message).encode()
    except (TypeError, ValueError) as error:
        raise EncodeError(f"a broadcast cannot be written: {error}") from error


def _properties(delivery_mode: int, exchange: str, routing_key: str) -> dict[str, Any]:
    return {
        "delivery_mode": delivery_mode,
        "delivery_info": {"exchange": exchange, "routing_key": routing_key},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
    }


def _body(message: Mapping[str, Any], headers: Mapping[str, Any], content_type: str) -> Any:
    found = message.get("body")
    if not isinstance(found, str):
        raise MalformedMessage(f"broadcast's body is {type(found).__name__}; expected text")
    properties = _map(message.get("properties") or {}, "broadcast's properties")
    data = found.encode(errors="surrogatepass")
    if properties.get("body_encoding") == "base64":
        data = _unpacked(data)
    if len(data) > _LIMIT:
        raise MalformedMessage(f"broadcast's body has {len(data)} bytes; expected at most {_LIMIT}")
    if compression := _text(headers.get("compression")):
        data = codec.decompress(data, compression, limit=_LIMIT)
    return codec.loads(data, content_type, _text(message.get("content-encoding")))


def _unpacked(data: bytes) -> bytes:
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError) as error:
        raise MalformedMessage("broadcast's body is no base64") from error


def _reply_to(body: Mapping[str, Any]) -> ReplyTo | None:
    found = body.get("reply_to")
    if not isinstance(found, dict):
        return None
    exchange, routing_key = found.get("exchange"), found.get("routing_key")
    if not isinstance(exchange, str) or not isinstance(routing_key, str) or not routing_key:
        return None
    # Whoever may broadcast must not have us write to lists of his choice.
    return ReplyTo(exchange, routing_key, _text(body.get("ticket"))) if _REPLIES.fullmatch(exchange) else None


def _matches(node: str, pattern: str, matcher: str) -> bool:
    if matcher == "glob":
        return fnmatch(node, pattern)
    if matcher != "pcre":
        return False
    try:
        return re.match(pattern, node) is not None
    except (re.error, RecursionError):
        return False


def _names(found: Any) -> Sequence[str]:
    if not found:
        return ()
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise MalformedMessage("broadcast's destination is no list of names")
    return tuple(found)


def _map(found: Any, part: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise MalformedMessage(f"{part} is {type(found).__name__}; expected a map")
    return found


def _text(found: Any) -> str | None:
    return found if isinstance(found, str) else None


def _clock(found: Any) -> int:
    is_clock = isinstance(found, int) and not isinstance(found, bool) and 0 <= found < _LARGEST_CLOCK
    return found if is_clock else 0
