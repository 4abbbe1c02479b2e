"""Messages as rows, and rows as messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tranship.errors import EncodeError
from tranship.protocol import Message, RawMessage

__all__ = ["NO_PROPERTIES", "NewTask", "new_task", "raw_message"]

JSON: Final = "application/json"
UTF8: Final = "utf-8"
"""The usual content type and encoding are stored as NULL."""

NO_PROPERTIES: Final[Mapping[str, Any]] = {}


@dataclass(slots=True)
class NewTask:
    """What is to be inserted for one message."""

    id: str
    queue: str
    priority: int
    due: float | None
    attempt: int
    cancel_key: str | None
    body: tuple[str | None, str | None, str | None, bytes, bytes]
    """Content type, content encoding, reply_to, headers, body: the columns of the body table."""
    dedup_key: str | None = None
    dedup_window: float = 0.0
    check_id: bool = False


def new_task(message: Message, *, dedup_window: float) -> NewTask:
    """Return the row for ``message``.

    Raises:
        EncodeError: a name in it cannot be written as UTF-8.
    """
    envelope = message.envelope
    if "\0" in envelope.id:
        raise EncodeError(f"the id {envelope.id!r} has a NUL in it; use Unicode text without", task_id=envelope.id)
    names = (
        envelope.id,
        envelope.queue,
        envelope.cancel_key or "",
        envelope.dedup_key or "",
        envelope.reply_to or "",
    )
    if not "".join(names).isascii():
        for text in names:
            _check_text(text, envelope.id)
    return NewTask(
        envelope.id,
        envelope.queue,
        int(envelope.priority),
        envelope.not_before,
        envelope.attempt,
        envelope.cancel_key,
        (
            None if message.content_type == JSON else message.content_type,
            None if message.content_encoding == UTF8 else message.content_encoding,
            envelope.reply_to,
            message.headers,
            message.body,
        ),
        envelope.dedup_key,
        dedup_window if envelope.dedup_window is None else envelope.dedup_window,
        message.check_id,
    )


def raw_message(
    content_type: str | None, content_encoding: str | None, reply_to: str | None, headers: bytes, body: bytes
) -> RawMessage:
    """Return the columns of a body row as a message."""
    properties = NO_PROPERTIES if reply_to is None else {"reply_to": reply_to}
    return RawMessage(headers, body, content_type or JSON, content_encoding or UTF8, properties)


def _check_text(text: str, task_id: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(f"{text!r} is no valid text ({error}); use Unicode text", task_id=task_id) from error
