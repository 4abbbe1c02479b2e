"""A message as bytes and back, for brokers that have no format of their own for it."""

from __future__ import annotations

import json
import struct
from typing import Any, Final, NamedTuple

from tranship.envelope import Priority
from tranship.protocol import Message, RawMessage, number_of

__all__ = ["Facts", "facts_of", "facts_read", "headers_bytes", "headers_read", "pack", "unpack"]

_SIZES: Final = struct.Struct(">II")


class Facts(NamedTuple):
    """What has to be known of a message without decoding it."""

    id: str
    """The task's id; its retries keep it."""
    queue: str
    """Where it goes, or was taken from."""
    level: Priority
    """On which level."""
    task: str | None = None
    """The task's name; None: nobody has said."""
    attempt: int = 0
    """How many attempts came before this one."""
    cancel_key: str | None = None
    """What many tasks may share, and be cancelled by."""
    reply_to: str | None = None
    """The address of who submitted it, where results are pushed to addresses."""
    store_result: bool = True
    """Whether its result is to be kept."""
    result_ttl: float | None = None
    """For how many seconds; None: the backend's default."""

    @property
    def slot(self) -> tuple[str, Priority]:
        """Queue and level together."""
        return self.queue, self.level


def facts_of(message: Message) -> Facts:
    """Return the facts of a message on its way to a broker."""
    e = message.envelope
    return Facts(
        e.id,
        e.queue,
        e.priority,
        e.task,
        e.attempt,
        e.cancel_key,
        e.reply_to,
        e.keeps_result,
        e.result_ttl,
    )


def pack(facts: Facts, message: RawMessage) -> bytes:
    """Return everything as bytes that :func:`unpack` reads."""
    head = json.dumps([facts, message.content_type, message.content_encoding, dict(message.properties)]).encode()
    headers = headers_bytes(message)
    return b"".join((_SIZES.pack(len(head), len(headers)), head, headers, message.body))


def unpack(data: bytes) -> tuple[Facts, RawMessage]:
    """Return what :func:`pack` was given.

    Raises:
        ValueError: it was given nothing that these bytes could be.
    """
    try:
        head_size, headers_size = _SIZES.unpack_from(data)
        head_end = _SIZES.size + head_size
        body_at = head_end + headers_size
        own, content_type, content_encoding, properties = json.loads(data[_SIZES.size : head_end])
        facts = Facts(str(own[0]), str(own[1]), Priority(own[2]), *own[3:])
        message = RawMessage(data[head_end:body_at], data[body_at:], content_type, content_encoding, dict(properties))
    except (struct.error, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"{len(data)} bytes are no message of the driver kit: {error}") from error
    return facts, message


def headers_bytes(message: Message | RawMessage) -> bytes:
    """Return the headers of a message as a JSON object; what JSON has no word for, as text."""
    headers = message.headers
    return headers if isinstance(headers, bytes) else json.dumps(dict(headers), default=str).encode()


def headers_read(message: RawMessage) -> dict[str, Any]:
    """Return the headers of a message; none, if they cannot be read."""
    if not isinstance(message.headers, bytes):
        return dict(message.headers)
    try:
        found = json.loads(message.headers)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def facts_read(message: RawMessage, queue: str, level: Priority) -> Facts:
    """Return the facts from headers that somebody else may have written; what is not what it should be is left out."""
    headers = headers_read(message)
    retries, ttl = number_of(headers.get("retries")), number_of(headers.get("tranship-result-ttl"))
    return Facts(
        id=_text(headers.get("id")) or _text(message.properties.get("correlation_id")) or "",
        queue=queue,
        level=level,
        task=_text(headers.get("task")),
        attempt=int(retries or 0),
        cancel_key=_text(headers.get("tranship-cancel-key")),
        reply_to=_text(message.properties.get("reply_to")),
        store_result=headers.get("ignore_result") is not True,
        result_ttl=ttl,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
