"""What drivers store and what they bring back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tranship.envelope import Envelope

__all__ = ["Message", "RawMessage"]


@dataclass(slots=True, eq=False)
class Message:
    """An encoded task on its way to a broker, next to the envelope it was made from."""

    envelope: Envelope
    """What it was made from: queue, level, times and keys are read here."""
    headers: bytes
    """A JSON object: the header map."""
    body: bytes
    """Arguments and Celery's own options, encoded."""
    content_type: str
    """What the body is, such as ``application/json``."""
    content_encoding: str
    """How its text became bytes: ``utf-8`` or ``binary``."""
    check_id: bool = False
    """It may have been submitted before: a backend with RETRY_SAFE looks for its id first."""
    awaited: bool = False
    """Somebody is likely to wait for its result soon: worth expecting it with the submit."""
    tries: int = 0
    """How many times it has been handed to a backend."""
    like: object = None
    """Messages that have the same object here differ in their body and in their task's id, and in nothing else: not
    in their queue, nor in what they need of a backend. None: nothing is known."""
    mark: str | None = None
    """Tells it from what was sent under the same id before. None: nothing was."""

    @property
    def size(self) -> int:
        """Body plus encoded headers, in bytes."""
        return len(self.headers) + len(self.body)

    def properties(self) -> dict[str, Any]:
        """Return the properties Celery sends on every broker; a driver adds those of its own."""
        envelope = self.envelope
        return {"correlation_id": envelope.id, "reply_to": envelope.reply_to, "delivery_mode": 2}

    def raw(self) -> RawMessage:
        """Return the message as a worker would receive it."""
        return RawMessage(self.headers, self.body, self.content_type, self.content_encoding, self.properties())


@dataclass(slots=True, eq=False)
class RawMessage:
    """A message as it came from a broker; nothing about it is certain."""

    headers: bytes | Mapping[str, Any]
    """The header map, or a JSON object in UTF-8."""
    body: bytes
    """Without what the broker's driver put around it, such as base64 on Redis."""
    content_type: str | None = None
    """What the body says that it is."""
    content_encoding: str | None = None
    """How its text became bytes."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """``reply_to`` is the only one that is read."""
    problem: str | None = None
    """What a driver could not read of it, and what it expected, in one line: the message goes to the dead letters."""
