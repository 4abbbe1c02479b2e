"""What has been taken from the server, or seen: the token of a message, and what an acknowledgement's subject tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from tranship.driver import Slot, Stored, Taken
from tranship.protocol import whole_of
from tranship_nats._message import from_schedule, raw_of, tried

if TYPE_CHECKING:
    from tranship_nats._jetstream import Seen

__all__ = ["ACK", "NAK", "PROGRESS", "Token", "Told", "seen_as", "told_by"]

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
PROGRESS: Final = b"+WPI"


class Told:
    """What the subject of an acknowledgement tells of its message."""

    __slots__ = ("delivered", "mark", "seq", "stored_at")

    def __init__(self, delivered: int, seq: int, nanos: bytes) -> None:
        self.delivered, self.seq = delivered, seq
        self.mark = b"%d.%b" % (seq, nanos)
        """Tells the message from every other one, also of a stream that was deleted and made again."""
        when = whole_of(nanos)
        self.stored_at = float("inf") if when is None else when / 1e9
        """When it was stored, by the server's clock, in epoch seconds; inf: unknown."""


def told_by(subject: bytes) -> Told | None:
    """Read the subject of an acknowledgement; None: it is none, and what came with it is from no stream."""
    tokens = subject.split(b".")
    # Newer servers, and domains, put domain and account in front.
    at = 4 if len(tokens) == 9 else 6
    if len(tokens) < at + 4:
        return None
    delivered, seq = whole_of(tokens[at]), whole_of(tokens[at + 1])
    return None if delivered is None or seq is None else Told(delivered, seq, tokens[at + 3])


class Token:
    """What is needed to end a message.

    Args:
        slot: where it was taken from.
        told: of its message.
        ack: where its end is told; empty for what was picked from a stream, and is there still.
        block: its headers as they came.
        data: its payload as it came.
        until: the end of its lease, on the loop's clock.
        source: the kind of stream that it was picked from; empty: its consumer has handed it out.
    """

    __slots__ = ("ack", "block", "data", "done", "slot", "source", "told", "until")

    def __init__(  # noqa: PLR0917 - what came with one message, made for each
        self,
        slot: Slot,
        told: Told,
        ack: bytes,
        block: bytes | None,
        data: bytes,
        until: float,
        source: Literal["", "work", "delay"] = "",
    ) -> None:
        self.slot, self.told, self.ack, self.source = slot, told, ack, source
        self.block, self.data, self.until = block, data, until
        self.done = False

    def is_ours(self, now: float) -> bool:
        """Whether it is neither ended nor its lease over."""
        return not self.done and self.until > now

    @property
    def count(self) -> int:
        """How often it was delivered, its copies included, without those that were not tried."""
        return self.told.delivered + tried(self.block)

    def taken(self) -> Taken:
        """Return the message for the kit."""
        # The schedule has numbers of its own.
        origin = f"{'d' if self.source == 'delay' else ''}{self.told.seq}"
        taken = Taken(self, *self.slot, raw_of(self.block, self.data), self.count, origin=origin)
        taken.scheduled = from_schedule(self.block)
        return taken


def seen_as(seen: Seen, slot: Slot, state: Literal["ready", "delayed"]) -> Stored:
    """Return a message that was looked at for the kit."""
    return Stored(seen, Taken(None, *slot, raw_of(seen.block, seen.data)).opened()[0], state)
