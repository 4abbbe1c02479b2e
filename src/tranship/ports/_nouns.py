"""What goes through the ports all the time: deliveries and their ends, results."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tranship.envelope import Priority, TaskState
from tranship.errors import InvalidOptionError
from tranship.protocol import Message, RawMessage

__all__ = [
    "ConnectionEvent",
    "CountKind",
    "Delivery",
    "Received",
    "Settled",
    "Settlement",
    "StoredResult",
    "Verdict",
]


class CountKind(enum.StrEnum):
    """What ``Delivery.delivery_count`` means."""

    EXACT = "exact"
    """Deliveries that somebody had, and no others."""
    AT_LEAST = "at-least"
    """Deliveries that were released or only held may be counted too."""
    UNKNOWN = "unknown"
    """Nobody counts."""


@dataclass(slots=True, eq=False)
class Delivery:
    """One message in our hands, until it is settled, released, or its lease ends."""

    message: RawMessage
    """Headers, body and properties, as they came."""
    queue: str
    """Where it was taken from."""
    priority: Priority
    """On which level."""
    token: Any
    """The driver's own; nobody else looks inside."""
    delivery_count: int = 1
    """How many times the message has been delivered, this one included."""
    count_kind: CountKind = CountKind.EXACT
    """Whether that is exact, at least so many, or not known."""
    generation: int = 0
    """The connection it came over; a delivery of an earlier generation cannot be settled any more."""
    scheduled: bool = False
    """It comes from the broker's own schedule, and is due by the broker's clock, whatever ours says."""


@dataclass(frozen=True, slots=True)
class Received:
    """What ``Consumer.receive`` brought."""

    deliveries: Sequence[Delivery]
    confirmed: bool = True
    """With no deliveries: True when the broker said *empty*, False when nothing was heard at all."""


class Verdict(enum.Enum):
    """What becomes of a delivery."""

    ACK = "ack"
    """Done: remove it."""
    NACK = "nack"
    """Redeliver now; counts as a delivery."""
    REJECT = "reject"
    """To the dead letters. The copy is durable before the original goes."""
    REPLACE = "replace"
    """Done: remove it, after ``replacement`` has been stored (a retry)."""


class Settled(enum.Enum):
    """What the broker said of a settlement."""

    CONFIRMED = "confirmed"
    """Done, as the broker has said."""
    SENT = "sent"
    """Sent on a channel that gives no answer; a lost connection means redelivery."""
    LOST = "lost"
    """Not ours any more: nothing was removed and no result was written."""


@dataclass(slots=True, eq=False)
class Settlement:
    """The end of one delivery, with everything that belongs to the same step."""

    delivery: Delivery
    verdict: Verdict
    result: StoredResult | None = None
    """Terminal result to store with it; given only where FUSED_SETTLE is declared."""
    replacement: Message | None = None
    """For REPLACE: the next attempt, to be delivered at its envelope's ``not_before``."""
    reason: str = ""
    """For REJECT: a short stable word, such as ``"delivery-limit"``."""
    detail: str = ""
    """For REJECT: one sentence for people."""

    @property
    def problem(self) -> InvalidOptionError | None:
        """Why nobody can carry it out; None: it can be."""
        if (self.verdict is Verdict.REPLACE) is (self.replacement is not None):
            return None
        return InvalidOptionError(f"{self.verdict} and replacement belong together; give both or neither")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """A result document on its way to or from a store."""

    id: str
    state: TaskState
    document: bytes = b""
    """The encoded result (``tranship.protocol``); empty when the store knows only the state."""
    ttl: float | None = None
    """How long to keep it; None: the store's default. Not set on reading."""
    reply_to: str | None = None
    """The address from the envelope, for stores that push to it."""


class ConnectionEvent(enum.Enum):
    """Changes of the connection."""

    LOST = "lost"
    RESTORED = "restored"
    """Connected again under a new generation: subscriptions must be read again."""
