"""Messages as rows of the body table and back, and names that are no text for SQLite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tranship.driver import Outgoing, headers_bytes
from tranship.errors import EncodeError
from tranship.protocol import RawMessage

__all__ = ["body_row", "raw_message", "refusal"]

_JSON: Final = "application/json"
_UTF8: Final = "utf-8"
"""The usual content type and encoding are stored as NULL."""
_NO_PROPERTIES: Final[Mapping[str, Any]] = {}


def body_row(seq: int, task: Outgoing) -> tuple[object, ...]:
    """Return the columns of a task's body row."""
    message = task.source
    return (
        seq,
        None if message.content_type == _JSON else message.content_type,
        None if message.content_encoding == _UTF8 else message.content_encoding,
        task.facts.reply_to,
        headers_bytes(message),
        message.body,
    )


def raw_message(
    content_type: str | None, content_encoding: str | None, reply_to: str | None, headers: bytes, body: bytes
) -> RawMessage:
    """Return the columns of a body row as a message."""
    properties = _NO_PROPERTIES if reply_to is None else {"reply_to": reply_to}
    return RawMessage(headers, body, content_type or _JSON, content_encoding or _UTF8, properties)


def refusal(message: Outgoing) -> EncodeError | None:
    """Return the error for a message with a name that is no text for SQLite."""
    facts = message.facts
    names = facts.id, facts.queue, facts.cancel_key or "", facts.reply_to or ""
    plain = "".join(names)
    if plain.isascii() and "\0" not in facts.id:
        return None
    if "\0" in facts.id:
        return EncodeError(f"the id {facts.id!r} has a NUL in it; use Unicode text without", task_id=facts.id)
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        wrong = next(name for name in names if not name.isascii() and error.object[error.start] in name)
        made = EncodeError(f"{wrong!r} is no valid text ({error}); use Unicode text", task_id=facts.id)
        made.__cause__ = error
        return made
    return None
