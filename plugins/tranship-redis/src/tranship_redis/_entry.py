"""One entry of the stream of dead letters, and what is shown of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship import codec
from tranship.envelope import DeadLetter
from tranship.errors import MalformedMessage
from tranship.protocol import RawMessage, epoch_of, whole_of
from tranship_redis._element import read
from tranship_redis._levels import STEPS, Levels

__all__ = ["Entry", "entry_of", "is_entry_id", "letter_of", "place_of"]

_ID: Final = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)
_LARGEST: Final = 2**64


@dataclass(frozen=True, slots=True)
class Entry:
    """A dead letter as it is stored. What is missing is empty: streams have no rules."""

    id: str
    """The stream's: milliseconds of the server's clock, and a number."""
    queue: str
    step: int
    tag: str
    """The delivery tag it had."""
    reason: str
    detail: str
    task_id: str
    deliveries: int
    element: bytes
    """As it was in its list."""
    omitted: int = 0
    """Bytes of the element where it was too long to be read back; it is empty then."""
    died: float | None = None
    """When it died, in epoch seconds, if that was elsewhere; None: when it came into the stream."""


def entry_of(reply: Sequence[Any]) -> Entry:
    """Return an entry from what XRANGE answers for it."""
    entry_id, parts = reply
    values: Mapping[bytes, bytes] = dict(zip(parts[::2], parts[1::2], strict=True))
    step = whole_of(values.get(b"step")) or 0
    return Entry(
        id=_text(entry_id),
        queue=_text(values.get(b"queue")),
        step=step if step in STEPS else 0,
        tag=_text(values.get(b"tag")),
        reason=_text(values.get(b"reason")),
        detail=_text(values.get(b"detail")),
        task_id=_text(values.get(b"task_id")),
        deliveries=whole_of(values.get(b"deliveries")) or 0,
        element=values.get(b"element", b""),
        omitted=whole_of(values.get(b"omitted")) or 0,
        died=epoch_of(values.get(b"died")),
    )


def letter_of(entry: Entry, levels: Levels) -> DeadLetter:
    """Return what is shown of an entry; of headers that cannot be read nothing is."""
    raw = read(entry.element)
    headers = _headers(raw)
    task = headers.get("task")
    return DeadLetter(
        id=entry.id,
        task_id=entry.task_id or None,
        task=task if isinstance(task, str) else None,
        queue=entry.queue,
        priority=levels.priority(entry.step),
        reason=entry.reason,
        detail=f"{entry.detail} [{entry.omitted} bytes are not shown]" if entry.omitted else entry.detail,
        deliveries=entry.deliveries,
        died_at=place_of(entry.id)[0] / 1000 if entry.died is None else entry.died,
        headers=headers,
        body=raw.body,
        content_type=raw.content_type or codec.JSON,
    )


def is_entry_id(text: str) -> bool:
    """Whether the stream can have an entry of this id."""
    found = _ID.fullmatch(text)
    return found is not None and all(int(part) < _LARGEST for part in found.groups())


def place_of(entry_id: str) -> tuple[int, int]:
    """Return what entries are in order of; the first is the time of death in milliseconds."""
    millis, _, number = entry_id.partition("-")
    return int(millis), int(number)


def _headers(raw: RawMessage) -> Mapping[str, Any]:
    found: Any = raw.headers
    if isinstance(found, bytes):
        try:
            found = codec.loads(found, codec.JSON)
        except MalformedMessage:
            return {}
    return found if isinstance(found, Mapping) else {}


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
