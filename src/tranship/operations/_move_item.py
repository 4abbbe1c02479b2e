"""One message on its way from source to target."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tranship.errors import MalformedMessage
from tranship.operations._move_report import Refusal
from tranship.ports import CountKind, Delivery
from tranship.protocol import Message, pass_on

__all__ = ["Fate", "Item", "item_of"]

Key = tuple[str, int]


class Fate(enum.Enum):
    """What is known of a message at the target."""

    WAITING = "waiting"
    """It has not been answered for."""
    MOVED = "moved"
    THERE = "there"
    AGAIN = "again"
    """Moved before in this very run: the source has brought it once more."""
    REFUSED = "refused"


@dataclass(slots=True, eq=False)
class Item:
    """Mutable state: a delivery of the source, the message for the target, and what became of it."""

    delivery: Delivery
    message: Message | None
    """None: it cannot be carried at all."""
    early: bool
    """Taken before it was due."""
    fate: Fate = Fate.WAITING
    reason: str = ""
    detail: str = ""
    doubtful: bool = False
    """An answer of the target was lost: it may be there."""
    unchecked: bool = False
    """Submitted although the target says that it knows the id."""
    lost: bool = False
    """The source has taken it back: it is not ours any more."""

    @property
    def key(self) -> Key:
        """What tells it from every other message: two copies have one."""
        if self.message is None:
            return "", id(self)
        return self.message.envelope.id, self.message.envelope.attempt

    @property
    def seen_before(self) -> bool:
        """Whether somebody may have held it before us, such as a move that was killed."""
        return self.delivery.delivery_count > 1 or self.delivery.count_kind is CountKind.UNKNOWN

    @property
    def refusal(self) -> Refusal:
        """Why it was not moved."""
        task_id = None if self.message is None else self.message.envelope.id
        return Refusal(task_id=task_id, queue=self.delivery.queue, reason=self.reason, detail=self.detail)

    def refuse(self, reason: str, detail: str) -> None:
        """It is not moved."""
        self.fate, self.reason, self.detail = Fate.REFUSED, reason, detail


def item_of(delivery: Delivery, *, early: bool) -> Item:
    """Return the item for a delivery; one that cannot be carried is refused."""
    try:
        message = pass_on(delivery.message, queue=delivery.queue, priority=delivery.priority)
    except MalformedMessage as error:
        item = Item(delivery, None, early)
        item.refuse(error.reason, str(error))
        return item
    return Item(delivery, message, early)
