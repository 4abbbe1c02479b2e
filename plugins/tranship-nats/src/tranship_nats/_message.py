"""What goes over the wire: frames, blocks of headers, and a task as a message.

The header map of a task is one header, its body is the payload.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

import orjson

from tranship.protocol import RawMessage, whole_of

__all__ = [
    "MSG_ID",
    "NOT_BEFORE",
    "NO_HEADERS",
    "RESERVE",
    "TRIED",
    "block",
    "block_of",
    "copied",
    "escaped",
    "frame",
    "from_schedule",
    "headers_of",
    "moved_id",
    "raw_of",
    "status_of",
    "tried",
    "unescaped",
]

NO_HEADERS: Final = b""
RESERVE: Final = 16 * 1024
"""Bytes of the server's max_payload that are not for body and header map: our own headers, those of a dead letter."""
_INLINE: Final = 32 * 1024
"""Bytes of a header map that is sent as a header; the server takes 64 KiB of headers in all."""
_MOST_TRIED: Final = 2**31 - 1
_PLAIN: Final = re.compile(r"[!-$&-~](?:[ -$&-~]*[!-$&-~])?")
"""What NATS carries unchanged and without a percent sign."""
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")

MSG_ID: Final = b"Nats-Msg-Id"
NOT_BEFORE: Final = b"Not-Before"
TRIED: Final = b"Tried-Before"
"""How often a task was tried in messages that this one is the copy of."""
_MAP: Final = b"Task-Headers"
_SIZE: Final = b"Task-Headers-Size"
_TYPE: Final = b"Content-Type"
_ENCODING: Final = b"Content-Encoding"
_REPLY_TO: Final = b"Reply-To"
_DUE: Final = b"%:due:"
"""Begins the id of what was moved from the schedule."""
_FROM_SCHEDULE: Final = b"NATS/1.0\r\n%b: %b" % (MSG_ID, _DUE)


# Frames and headers.


def frame(subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> bytes:
    """Return a publish of ``payload``; ``headers`` is a block, or empty."""
    if headers:
        size = len(headers)
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, size, size + len(payload), headers, payload)
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)


def block(lines: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a block of headers; the values are escaped already where they need to be."""
    return b"NATS/1.0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % line for line in lines)


def headers_of(found: bytes | None) -> dict[bytes, bytes]:
    """Return the headers in a block, their values still escaped; whatever cannot be read is left out."""
    headers: dict[bytes, bytes] = {}
    for line in (found or b"").split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name] = value.strip()
    return headers


def status_of(found: bytes | None) -> int:
    """Return the status in a block, such as 404 or 503; 0: it has none."""
    if not found or found[8:9] != b" ":
        return 0
    return whole_of(found[9:12]) or 0


def escaped(value: str) -> bytes:
    """Return ``value`` so that it survives as a header: blanks at the ends, line ends and non-ASCII percent-encoded."""
    return value.encode() if _PLAIN.fullmatch(value) or not value else _quoted(value)


@lru_cache(maxsize=256)
def _quoted(value: str) -> bytes:
    inner = " " if value == value.strip() else ""
    return quote(value, safe=_SAFE + inner, errors="surrogatepass").encode()


def unescaped(value: bytes) -> str:
    """Return the value that :func:`escaped` wrote."""
    return unquote(value.decode(errors="replace"), errors="replace")


# Tasks.


@lru_cache(maxsize=256)
def _constant(content_type: str | None, encoding: str | None, reply_to: str | None) -> bytes:
    lines = [(_TYPE, escaped(content_type or "")), (_ENCODING, escaped(encoding or ""))]
    if reply_to is not None:
        lines.append((_REPLY_TO, escaped(reply_to)))
    return b"".join(b"%b: %b\r\n" % line for line in lines)


def block_of(message: RawMessage, msg_id: bytes, *, not_before: float | None = None) -> tuple[bytes, bytes]:
    """Return the block of headers and the payload that carry a task.

    Args:
        message: the task.
        msg_id: under which the server recognises it when it comes again.
        not_before: epoch seconds, where it goes to the schedule.
    """
    headers, body = message.headers, message.body
    if not isinstance(headers, bytes):
        headers = orjson.dumps(dict(headers))
    constant = _constant(message.content_type, message.content_encoding, message.properties.get("reply_to"))
    if not_before is not None:
        constant += b"%b: %r\r\n" % (NOT_BEFORE, not_before)
    if len(headers) > _INLINE or b"\n" in headers or b"\r" in headers or not headers.startswith(b"{"):
        line, body = b"%b: %d\r\n" % (_SIZE, len(headers)), headers + body
    else:
        line = b"%b: %b\r\n" % (_MAP, headers)
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


def copied(found: bytes | None, *, msg_id: bytes, tried: int = 0) -> bytes:
    """Return a block with the same headers under another id, without what the server or we said on its way."""
    more = [(TRIED, b"%d" % tried)] if tried else []
    kept = [
        (name, value)
        for name, value in headers_of(found).items()
        if not name.startswith(b"Nats-") and name not in (NOT_BEFORE, TRIED)
    ]
    return block([(MSG_ID, msg_id), *more, *kept])


def moved_id(seq: int) -> bytes:
    """Return the id under which a message of the schedule is sent to its queue."""
    return b"%b%d" % (_DUE, seq)


def from_schedule(found: bytes | None) -> bool:
    """Whether a message was moved from the schedule: it is due."""
    return found is not None and found.startswith(_FROM_SCHEDULE)


def _split(headers: dict[bytes, bytes], data: bytes) -> tuple[bytes, bytes]:
    size = whole_of(headers[_SIZE], most=len(data)) if _SIZE in headers else None
    if size is not None:
        return data[:size], data[size:]
    return headers.get(_MAP, b"{}"), data


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
