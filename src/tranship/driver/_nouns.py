"""What goes through the primitives: messages on their way, messages in hand, their ends, rows."""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tranship.driver._packing import Facts, facts_of, facts_read, pack, unpack
from tranship.envelope import Priority
from tranship.errors import TranshipError
from tranship.ports import CountKind, Delivery
from tranship.protocol import Message, RawMessage

__all__ = [
    "Answer",
    "End",
    "Ending",
    "Heard",
    "Outgoing",
    "QueueTraits",
    "Row",
    "SendLimits",
    "Slot",
    "Stored",
    "Taken",
    "TakenBatch",
    "Undo",
    "stamp",
]

Slot = tuple[str, Priority]
"""A queue, and one of its levels."""
Undo = Callable[[], None]
"""Takes back what the call that returned it began; calling it twice does nothing more."""
Heard = Callable[[str, bytes], None]
"""Told the name and the value of a signal."""
Answer = str | None | TranshipError
"""What became of one message that was sent: None: it is stored. A text: it is not, because it duplicates another one,
whose id the text is; its own id, where it was sent before itself. An error: :class:`~tranship.errors.SubmitUnknown`, or
one that means that it is definitely not stored."""


class SendLimits(NamedTuple):
    """How much of what is sent may travel together; the kit cuts to it, so that a driver never has to."""

    messages: int = 1000
    """Messages of one batch."""
    octets: int = 4 * 1024 * 1024
    """Bytes of headers and bodies in one batch; a single message may be larger."""
    under_way: int = 1
    """Batches of one submit that are under way at once. Above 1 the order between batches is the broker's."""
    message: int | None = None
    """Bytes of headers and body of a single message; None: as many as the option ``max_message_size`` allows."""

    def hold(self, messages: int, octets: int) -> bool:
        """Whether so much may travel in one batch."""
        return messages <= self.messages and (messages == 1 or octets <= self.octets)


@dataclass(frozen=True, kw_only=True, eq=False)
class QueueTraits:
    """How a queue behaves, where its verbs cannot tell. Whatever is not said here is refused or done by the kit."""

    lease: float | None = None
    """Seconds that a token lasts without ``renew``; None: as long as the connection."""
    hard_limit: float | None = None
    """The longest that a token can be held, whatever we do, in seconds."""
    counts: CountKind = CountKind.UNKNOWN
    """What ``Taken.delivery_count`` means."""
    order: Literal["keeps-place", "back"] | None = None
    """First in, first out within a slot; what is given back keeps its place, or goes to the back. None: any order."""
    levels: bool = False
    """``take`` serves the slots strictly in the order they are given in."""
    turns: bool = False
    """``take`` gives the queues of one level their turns by itself; the kit then hands it slots in one order."""
    waits: bool = False
    """``take`` itself waits until there is something."""
    delays: bool = False
    """``Outgoing.ready`` is honoured; otherwise the kit keeps what is not due in the table."""
    unique: bool = False
    """``send`` recognises an id, with its ``Outgoing.mark``, that is queued or held already, and answers with the
    id. With ``fuses`` only messages with an ``Outgoing.unless`` have to be looked at: those that may have been sent
    before; without it there is no ``unless``, and every message is. A mark makes it another message: a retry is often
    sent while the message that it replaces, with the same id, is still held [queue_unique]."""
    finds: Literal["all", "delayed"] = "all"
    """What ``find``, where there is one, has an index of. With ``delayed`` nobody can tell an unknown id from a pending
    one."""
    fuses: bool = False
    """``Ending.rows`` and ``Ending.then``, ``Outgoing.first`` and ``Outgoing.unless`` are one step with their verb: all
    of it is done, or nothing [queue_fused_send, queue_fused_end]."""
    tells: bool = False
    """``Row.tell`` is published in the same step as the row is created, by ``Table.create`` or with an end, and
    never for a row that was there. The signal's name is ``Row.key``, its value ``Row.tell``
    [queue_tells_what_it_creates]."""
    tokens_survive: bool = True
    """Tokens can be ended and renewed over a later connection."""
    numbers: Sequence[Priority] = ()
    """The level of each of Celery's numbers for a priority, from 0 up, where its programs send to the same queues; the
    last is that of all above it, too. None: a number means nothing here."""
    limits: SendLimits = SendLimits()  # noqa: RUF009 - it is a tuple
    """How much may travel together, see :class:`SendLimits`."""


@dataclass(slots=True, eq=False)
class Row:
    """One row of a table."""

    key: str
    """``kind/rest``. The kinds that the kit writes are one letter; a driver's own have at least two."""
    value: bytes
    """Any bytes, none at all, too."""
    ttl: float | None = None
    """Seconds to keep it, when it is written; None: until it is deleted. Not set on reading."""
    version: int = 0
    """Set on reading, and not 0; differs after each write of the key."""
    tell: bytes | None = None
    """Only with ``tells``: what to publish on the topic, with the row's key as the name, when the row is created, and
    only then. Empty is a value; None: nothing."""


class Outgoing:
    """One message for a queue.

    Args:
        facts: what has to be known of it; None: what a task that is encoded says of itself.
        source: headers, body, content type and encoding, as they are there: for drivers that need no more.
        ready: when it may be taken, in epoch seconds. Only queues with the trait ``delays`` see one in the future.
        first: only with ``fuses``: a row to create in the same step; its value is the message's id. Where the row is
            there with the same value, that is no obstacle; where it has another one, the message is not stored, and
            the answer is that value, decoded [queue_fused_send].
        unless: only with ``fuses``: the key of a row. Where it exists the message is not stored, and the answer is its
            own id [queue_fused_send].
        mark: tells it from what was sent under the same id before: it is a retry, or was replayed. The same mark again
            is the same message again. None: it is a task that is submitted. Only queues that are ``unique`` need it.
    """

    __slots__ = ("_facts", "first", "mark", "ready", "source", "unless")
    ready: float
    first: Row | None
    unless: str | None
    mark: str | None

    def __init__(
        self,
        facts: Facts | None,
        source: Message | RawMessage,
        ready: float = 0.0,
        *,
        first: Row | None = None,
        unless: str | None = None,
        mark: str | None = None,
    ) -> None:
        self._facts, self.source, self.ready = facts, source, ready
        self.first, self.unless, self.mark = first, unless, mark

    @classmethod
    def of(cls, message: Message) -> Outgoing:
        """Return what is sent for an encoded task, to be taken at its ``not_before``."""
        return cls(None, message, message.envelope.not_before or 0.0, mark=message.mark)

    @property
    def facts(self) -> Facts:
        """What has to be known of it."""
        if self._facts is None:
            assert isinstance(self.source, Message)
            self._facts = facts_of(self.source)
        return self._facts

    @property
    def message(self) -> RawMessage:
        """Headers, body and properties, for drivers with a wire format of their own."""
        if isinstance(self.source, Message):
            self._facts, self.source = self.facts, self.source.raw()
        return self.source

    @property
    def id(self) -> str:
        """The task's id."""
        return self.source.envelope.id if self._facts is None else self._facts.id  # type: ignore[union-attr]

    @property
    def queue(self) -> str:
        """Where it goes."""
        return self.facts.queue

    @property
    def level(self) -> Priority:
        """On which level."""
        return self.facts.level

    @property
    def slot(self) -> Slot:
        """Queue and level together."""
        return self.facts.slot

    @property
    def data(self) -> bytes:
        """All of it as bytes, for drivers that store it as it is; ``take`` brings the same bytes back."""
        return pack(self.facts, self.message)

    @property
    def size(self) -> int:
        """Bytes of headers and body."""
        return len(self.source.headers) + len(self.source.body)


TakenData = bytes | Outgoing | RawMessage
"""A message as a driver gives it back: what ``send`` got as :attr:`Outgoing.data`; or, where it never left the process,
what it got; or, on a broker with a wire format of its own, the message."""


class Taken(Delivery):
    """One message in our hands. It is what the core gets as its delivery, too.

    Args:
        token: the driver's own. The kit looks neither inside nor at its hash; a driver may change it in place, for
            example when renewing a lease is a rename.
        queue, level: where it was taken from.
        data: the message.
        count: how many times it has been taken, this one included.
        task_id: its id, where the driver keeps that beside a message; otherwise it is what the message says.
        origin: the same for each time that this message is taken, and different from every other's; empty: the broker
            tells nothing of that kind.
    """

    __slots__ = ("_facts", "_mark", "data", "origin", "taken_at", "task_id", "unsure")
    message: RawMessage
    queue: str
    priority: Priority
    token: Any
    delivery_count: int
    count_kind: CountKind
    generation: int
    scheduled: bool
    data: TakenData
    task_id: str | None
    origin: str

    def __init__(
        self,
        token: Any,
        queue: str,
        level: Priority,
        data: TakenData,
        count: int = 1,
        *,
        task_id: str | None = None,
        origin: str = "",
    ) -> None:
        self.task_id, self.origin = task_id, origin
        self.token, self.queue, self.priority, self.data, self.delivery_count = token, queue, level, data, count
        self.count_kind, self.generation, self.scheduled = CountKind.UNKNOWN, 0, False
        # The rest is the kit's own.
        self.taken_at: float = 0.0
        self.unsure: bool = False
        self._mark = ""
        self._facts: Facts | None = None

    def unpack(self) -> None:
        """Have the message at hand, as a delivery has it; of a message alone nothing has to be known for that."""
        if isinstance(self.data, RawMessage):
            self.message = self.data
        else:
            self.opened()

    def opened(self) -> tuple[Facts, RawMessage]:
        """Return its facts and the message; of what cannot be read, a message with a problem: whoever gets it gives it
        up, with everything that is known.
        """
        if self._facts is None:
            self._facts, self.message = self._open()
        return self._facts, self.message

    def _open(self) -> tuple[Facts, RawMessage]:
        data = self.data
        if isinstance(data, Outgoing):
            sent = data.message
            # Its own: whoever gets it may write into it.
            own = RawMessage(sent.headers, sent.body, sent.content_type, sent.content_encoding, sent.properties)
            return data.facts, own
        if isinstance(data, RawMessage):
            facts = facts_read(data, self.queue, self.priority)
            return facts if self.task_id is None else facts._replace(id=self.task_id), data
        try:
            return unpack(data)
        except ValueError as error:
            return Facts("", self.queue, self.priority), RawMessage(b"{}", data, problem=str(error))

    @property
    def mark(self) -> str:
        """What makes the keys of what is stored when it ends: ended once more, it stores nothing new."""
        self._mark = self._mark or stamp()
        return self._mark


@dataclass(slots=True, eq=False)
class TakenBatch:
    """What ``take`` brought."""

    items: Sequence[Taken] = ()
    """At most as many as were asked for; with ``demand``, everything that has arrived."""
    confirmed: bool = True
    """With no items: the broker said that there are none, rather than nothing at all."""
    next_due: float | None = None
    """With no items: seconds *from now* until one is due, or given up by who holds it, where the driver knows; no point
    in time."""
    emptied: bool = False
    """With items: nothing else is there, and ``watch`` tells of what comes, so that nobody has to look once more;
    ``next_due`` is as with no items."""


class End(enum.Enum):
    """What becomes of one message that was taken.

    There is no rejecting and no replacing: both are REMOVE, with rows to create or messages to send.
    """

    REMOVE = "remove"
    """It is gone."""
    REQUEUE = "requeue"
    """It can be taken again at once, and this time was counted: the next ``delivery_count`` is one more
    [queue_end_answers_each]."""
    RELEASE = "release"
    """It can be taken again at once, as if it had never been taken: this time is not counted, and where the trait
    ``order`` says ``keeps-place``, it is at its own place [queue_end_answers_each]."""


@dataclass(slots=True, eq=False)
class Ending:
    """The end of one message, and what belongs to the same step."""

    token: Any
    """Of what was taken, see :class:`Taken`."""
    end: End
    """What becomes of it."""
    rows: Sequence[Row] = ()
    """Only with ``fuses``: to create in the same step, if the token is ours; a row that is there already stays as it
    is, and the message is ended all the same [queue_fused_end_first_row_wins]."""
    then: Sequence[Outgoing] = ()
    """Only with ``fuses``: to send in the same step, if the token is ours [queue_fused_end]. A retry has the id of the
    message that ends here."""
    handed_out: bool = False
    """With RELEASE: somebody had it. Where counts are not exact, this time may be counted; of what was only held, it is
    not."""


@dataclass(slots=True, eq=False)
class Stored:
    """One message seen without taking it."""

    ref: Any
    """What ``pick`` takes."""
    facts: Facts
    """What has to be known of it."""
    state: Literal["ready", "delayed", "held"]
    """Whether it could be taken now, is not due, or is in somebody's hands."""


def stamp() -> str:
    """Return a part of a key that sorts by time and is different each time."""
    return f"{time.time_ns():020d}-{os.urandom(4).hex()}"
