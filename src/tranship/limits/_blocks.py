"""Blocks of messages that wait in a line, as records. They are created, and never changed until all of it is over.

Records, besides those of blocks:

- ``limits/line/<task>/<key>``: the line itself.
- ``limits/block/<part>/<number>``: messages that wait, in order. Once all have ended it is empty, and goes by itself.
- ``limits/waits/<id>``: a task waits, where an id that the broker has not would be taken for an unknown one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgpack

from tranship.envelope import Envelope, Priority
from tranship.errors import MalformedMessage
from tranship.ports import Record
from tranship.protocol import Message, RawMessage, decode

__all__ = [
    "OVERHEAD",
    "block_key",
    "blocks_of",
    "envelope_of",
    "line_key",
    "line_prefix",
    "mark_key",
    "messages_in",
    "nothing_left",
]

MESSAGES: Final = 50
BYTES: Final = 64 * 1024
"""Of one block: it is read whole by whoever sends one of its messages."""
OVERHEAD: Final = 1024
"""Bytes of a message that a block adds, and its place in the line."""
GONE: Final = 120.0
"""Seconds for which the record of an empty block stays: longer than a submit that has just read the line may take to
create the next one, which is therefore never created twice."""
LONGEST_ID: Final = 500
"""Bytes of an id in a key."""
LONGEST_NAME: Final = 200
"""Bytes of a task's name in a key."""


def line_prefix(task: str) -> str:
    """Return what the keys of the lines of a task begin with."""
    name = task if len(task.encode()) <= LONGEST_NAME else hashlib.blake2b(task.encode(), digest_size=16).hexdigest()
    return f"limits/line/{name}/"


def line_key(task: str, key: str) -> str:
    """Return the key of the record of a line."""
    return line_prefix(task) + key


def mark_key(task_id: str) -> str:
    """Return the key of the mark of a task that waits."""
    size = len(task_id.encode())
    shown = task_id if size <= LONGEST_ID else hashlib.blake2b(task_id.encode(), digest_size=16).hexdigest()
    return f"limits/waits/{shown}"


def block_key(part: str, number: int) -> str:
    """Return the key of a block."""
    return f"limits/block/{part}/{number:010d}"


def blocks_of(messages: Sequence[Message]) -> Iterator[bytes]:
    """Yield the values of the blocks that hold ``messages``, in order."""
    block: list[Any] = []
    size = 0
    for one in messages:
        if block and (len(block) >= MESSAGES or size + one.size > BYTES):
            yield msgpack.packb(block)
            block, size = [], 0
        envelope = one.envelope
        block.append(
            [
                one.headers,
                one.body,
                one.content_type,
                one.content_encoding,
                envelope.queue,
                envelope.priority.label,
                envelope.reply_to,
            ]
        )
        size += one.size
    if block:
        yield msgpack.packb(block)


def messages_in(value: bytes) -> list[Any]:
    """Return the messages of a block, each to be read by :func:`envelope_of`.

    Raises:
        MalformedMessage: it is none.
    """
    if not value:
        return []
    try:
        found: list[Any] = msgpack.unpackb(value)
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"a block of tasks that wait cannot be read: {error}") from error
    return found


def envelope_of(message: Any) -> Envelope:
    """Return the task of a message of a block.

    Raises:
        MalformedMessage: it is none.
    """
    headers, body, content_type, encoding, queue, level, reply_to = message
    raw = RawMessage(headers, body, content_type, encoding, {"reply_to": reply_to})
    return decode(raw, queue=queue, priority=Priority.parse(level))


def nothing_left(part: str, number: int) -> Record:
    """Return the record of a block all of whose tasks have ended."""
    return Record(block_key(part, number), b"", ttl=GONE)
