"""A task as a message of NATS, and back: the header map is one header, the body is the payload."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import orjson

from tranship.errors import MessageTooLarge
from tranship.protocol import Message, RawMessage, whole_of
from tranship_nats._frames import block, escaped, headers_of, unescaped

__all__ = [
    "DUE",
    "RESERVE",
    "TRIED",
    "block_again",
    "block_of",
    "check_size",
    "copied",
    "from_schedule",
    "id_in",
    "raw_of",
    "said",
    "tried",
]

RESERVE: Final = 16 * 1024
"""Bytes of the server's max_payload that are not for body and header map: our own headers, those of a dead letter."""
_DETAIL: Final = 500
"""Characters of a dead letter's reason and of its detail."""
_INLINE: Final = 32 * 1024
"""Bytes of a header map that is sent as a header; the server takes 64 KiB of headers in all."""

_MOST_TRIED: Final = 2**31 - 1

MSG_ID: Final = b"Nats-Msg-Id"
DUE: Final = b"%:due:"
"""Begins the id of what was moved from the schedule."""
_FROM_SCHEDULE: Final = b"NATS/1.0\r\n%b: %b" % (MSG_ID, DUE)
NOT_BEFORE: Final = b"Not-Before"
TRIED: Final = b"Tried-Before"
"""How often a task was tried in messages that this one is the copy of."""
DEAD_REASON: Final = b"Dead-Reason"
DEAD_DETAIL: Final = b"Dead-Detail"
DEAD_COUNT: Final = b"Dead-Deliveries"
_MAP: Final = b"Task-Headers"
_SIZE: Final = b"Task-Headers-Size"
_TYPE: Final = b"Content-Type"
_ENCODING: Final = b"Content-Encoding"
_REPLY_TO: Final = b"Reply-To"


@lru_cache(maxsize=256)
def _constant(content_type: str, encoding: str, reply_to: str | None) -> bytes:
    lines = [(_TYPE, escaped(content_type)), (_ENCODING, escaped(encoding))]
    if reply_to is not None:
        lines.append((_REPLY_TO, escaped(reply_to)))
    return b"".join(b"%b: %b\r\n" % line for line in lines)


def block_of(
    message: Message, msg_id: bytes, *, not_before: float | None = None, more: bytes = b""
) -> tuple[bytes, bytes]:
    """Return the block of headers and the payload that carry ``message``.

    Args:
        message: the task.
        msg_id: under which the server recognises it when it comes again.
        not_before: epoch seconds, where it goes to the schedule.
        more: further header lines.
    """
    constant = _constant(message.content_type, message.content_encoding, message.envelope.reply_to) + more
    if not_before is not None:
        constant += b"%b: %r\r\n" % (NOT_BEFORE, not_before)
    return _written(msg_id, constant, message.headers, message.body)


def block_again(raw: RawMessage, headers: bytes, msg_id: bytes) -> tuple[bytes, bytes]:
    """Return what carries a message that was received, with another header map."""
    reply_to = raw.properties.get("reply_to")
    constant = _constant(raw.content_type or "", raw.content_encoding or "", reply_to)
    return _written(msg_id, constant, headers, raw.body)


def _written(msg_id: bytes, constant: bytes, headers: bytes, body: bytes) -> tuple[bytes, bytes]:
    line = b"%b: %b\r\n" % (_MAP, headers)
    if len(headers) > _INLINE or b"\n" in headers or b"\r" in headers or not headers.startswith(b"{"):
        line, body = b"%b: %d\r\n" % (_SIZE, len(headers)), headers + body
    return b"NATS/1.0\r\n%b: %b\r\n%b%b\r\n" % (MSG_ID, msg_id, constant, line), body


def raw_of(found: bytes | None, data: bytes) -> RawMessage:
    """Return what a worker makes of a message; of one that is none of ours as much as there is."""
    headers = headers_of(found)
    values, body = _split(headers, data)
    properties: dict[str, Any] = {}
    if _REPLY_TO in headers:
        properties["reply_to"] = unescaped(headers[_REPLY_TO])
    raw = RawMessage(values, body, _text(headers.get(_TYPE)), _text(headers.get(_ENCODING)), properties)
    if TRIED in headers or _SIZE in headers:
        raw.problem = _problem(headers, data)
    return raw


def tried(found: bytes | None) -> int:
    """Return how often a message's task was tried before it was sent; 0 where that cannot be read."""
    if found is None or TRIED not in found:
        return 0
    return whole_of(headers_of(found).get(TRIED), most=_MOST_TRIED) or 0


def _split(headers: dict[bytes, bytes], data: bytes) -> tuple[bytes, bytes]:
    size = whole_of(headers[_SIZE], most=len(data)) if _SIZE in headers else None
    if size is not None:
        return data[:size], data[size:]
    return headers.get(_MAP, b"{}"), data


def from_schedule(found: bytes | None) -> bool:
    """Whether a message was moved from the schedule: it is due."""
    return found is not None and found.startswith(_FROM_SCHEDULE)


def _problem(headers: dict[bytes, bytes], data: bytes) -> str | None:
    """Return which number of ours somebody else has written into a message, and how it should have been."""
    for name, most in ((TRIED, _MOST_TRIED), (_SIZE, len(data))):
        value = headers.get(name)
        if value is not None and whole_of(value, most=most) is None:
            shown = value[:20].decode("ascii", "backslashreplace") + ("..." if len(value) > 20 else "")
            return f"message header {name.decode()!r} is {shown!r}; expected a whole number of 0 to {most}"
    return None


def _text(value: bytes | None) -> str | None:
    return unescaped(value) if value else None


def copied(found: bytes | None, *, msg_id: bytes, more: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """Return a block with the same headers under another id, without what the server or we said on its way."""
    gone = (NOT_BEFORE, TRIED, *(name for name, _ in more or ()))
    kept = [
        (name, value) for name, value in headers_of(found).items() if not name.startswith(b"Nats-") and name not in gone
    ]
    return block([(MSG_ID, msg_id), *(more or ()), *kept])


def said(reason: str, detail: str, deliveries: int) -> list[tuple[bytes, bytes]]:
    """Return the header lines that tell why a task died."""
    return [
        (DEAD_REASON, escaped(reason[:_DETAIL])),
        (DEAD_DETAIL, escaped(detail[:_DETAIL])),
        (DEAD_COUNT, b"%d" % deliveries),
    ]


def id_in(headers: Any) -> str:
    """Return the task's id in a header map; empty: there is none to be read."""
    try:
        values = orjson.loads(headers) if isinstance(headers, bytes) else headers
        found = values.get("id")
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    return found if isinstance(found, str) else ""


def check_size(task_id: str | None, size: int, limit: int, what: str = "") -> MessageTooLarge | None:
    """Return the error for ``size`` bytes where ``limit`` are taken."""
    if size <= limit:
        return None
    noun = what or f"task {task_id}"
    return MessageTooLarge(
        f"{noun} is {size:,} bytes, the limit is {limit:,}; pass a reference instead of the data, or raise "
        "max_message_size and the server's max_payload",
        size=size,
        limit=limit,
        task_id=task_id,
    )
