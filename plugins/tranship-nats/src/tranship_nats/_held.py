"""What has been taken from the server: as it came, and as the token of a delivery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tranship.envelope import Priority
from tranship.ports import CountKind, Delivery
from tranship.protocol import whole_of
from tranship_nats._message import from_schedule, raw_of, tried

__all__ = ["ACK", "NAK", "PROGRESS", "Held", "Pair", "Taken", "acknowledgement", "consumer_of", "mark_of", "stored_at"]

ACK: Final = b"+ACK"
NAK: Final = b"-NAK"
PROGRESS: Final = b"+WPI"


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One level of a queue, with its consumer."""

    queue: str
    priority: Priority
    subject: bytes
    """Of its messages."""
    pull: bytes
    """Where its messages are asked for."""
    consumer: str
    stream: str

    @property
    def place(self) -> tuple[bytes, bytes]:
        """The stream and the consumer."""
        return self.stream.encode(), self.consumer.encode()


class Held:
    """The token of a delivery: what is needed to end it."""

    __slots__ = ("ack", "block", "data", "done", "early", "mark", "seq", "until")

    def __init__(self, ack: bytes, seq: int, block: bytes | None, data: bytes, until: float) -> None:
        self.mark = mark_of(ack) if ack else b""
        """Tells the message from every other one, also of a stream that was deleted and made again."""
        self.ack = ack
        """Where its end is told; empty for what was taken from the schedule."""
        self.early = not ack
        self.seq = seq
        """Its place in the stream; no other message ever has it."""
        self.block = block
        """Its headers as they came."""
        self.data = data
        """Its payload as it came."""
        self.until = until
        """The end of its lease, on the loop's clock."""
        self.done = False
        """Whether it has been settled, given back, or lost."""


class Taken:
    """A message that has come and is not handed out yet.

    Args:
        pair: where it was asked for.
        ack: where its end is told.
        told: what :func:`acknowledgement` read there.
        block: its headers as they came.
        data: its payload.
        at: when it came, on the loop's clock.
    """

    __slots__ = ("ack", "at", "block", "count", "data", "pair", "seq")

    def __init__(
        self, pair: Pair, ack: bytes, told: tuple[int, int], block: bytes | None, data: bytes, *, at: float
    ) -> None:
        self.pair = pair
        self.ack = ack
        self.block = block
        self.data = data
        self.at = at
        """When it came, or was renewed, on the loop's clock."""
        delivered, self.seq = told
        self.count = delivered + tried(block)
        """How often it was delivered, its copies included, without those that were not tried."""

    @property
    def mark(self) -> bytes:
        """Tells the message from every other one."""
        return mark_of(self.ack)

    def held(self, until: float) -> Held:
        """Return its token."""
        return Held(self.ack, self.seq, self.block, self.data, until)

    def delivery(self, lease: float, generation: int) -> Delivery:
        """Return it for the core."""
        return Delivery(
            raw_of(self.block, self.data),
            self.pair.queue,
            self.pair.priority,
            self.held(self.at + lease),
            self.count,
            CountKind.AT_LEAST,
            generation,
            from_schedule(self.block),
        )


def acknowledgement(subject: bytes) -> tuple[int, int] | None:
    """Return the number of deliveries and the stream's sequence that an acknowledgement's subject tells.

    None: it is no such subject, and what came with it is from no stream.
    """
    tokens = subject.split(b".")
    at = _at(tokens)
    if len(tokens) < at + 4:
        return None
    delivered, seq = whole_of(tokens[at]), whole_of(tokens[at + 1])
    return None if delivered is None or seq is None else (delivered, seq)


def mark_of(subject: bytes) -> bytes:
    """Return sequence and time of the message that an acknowledgement's subject is about."""
    tokens = subject.split(b".")
    at = _at(tokens)
    return tokens[at + 1] + b"." + tokens[at + 3]


def stored_at(mark: bytes) -> float:
    """Return when the message was stored that a mark tells, in epoch seconds by the server's clock; inf: unknown."""
    nanos = whole_of(mark.partition(b".")[2])
    return float("inf") if nanos is None else nanos / 1e9


def consumer_of(subject: bytes) -> tuple[bytes, bytes]:
    """Return the stream and the consumer that an acknowledgement's subject belongs to."""
    tokens = subject.split(b".")
    at = _at(tokens)
    return tokens[at - 2], tokens[at - 1]


def _at(tokens: list[bytes]) -> int:
    # Newer servers, and domains, put domain and account in front.
    return 4 if len(tokens) == 9 else 6
