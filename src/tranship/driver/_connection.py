"""What a driver implements besides a queue: a table, a log, a topic, reply queues; and the connection they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from tranship.driver._nouns import Heard, Row
from tranship.driver._queue import Queue
from tranship.ports import StoredResult

__all__ = [
    "Connection",
    "LocalConnection",
    "Log",
    "ReplyQueue",
    "Table",
    "TellingTime",
    "Topic",
    "answers_submitters",
    "log_of",
    "replies_of",
]


class Table(Protocol):
    """Rows by key, with which the kit keeps results, cancels, heartbeats, dedup keys, dead letters, delays,
    records and locks.

    Rows are independent of each other: a call over several is not one step. A key comes once in a call. A row whose
    time is over is not there, for any verb [table_ttl]; to delete it for good is the driver's own business, as the kit
    never does that.

    Keys are whole characters, any of them, NUL, too, where a user has put it into an id; they have up to 1,100 bytes in
    UTF-8 [table_get_in_order]. Values are any bytes, none at all, too, and somewhat more than a message may have.

    All verbs: Concurrency: yes. Bound: one round trip. Cancelled: only at close; done or not, for each row. Retry:
    never; the kit writes so that it may do it again. Errors: raised: done or not, for each row. Closed: whatever is
    native.
    """

    async def create(self, rows: Sequence[Row]) -> Sequence[bytes | None]:
        """Write each row unless its key is there; None: written, else the value that is there. Of several who create
        one key at once, one wins [table_create_one_wins].
        """

    async def put(self, rows: Sequence[Row], if_version: Sequence[int] | None = None) -> Sequence[int | None]:
        """Write each row, with ``if_version`` only where the row is there in that version; return the new version of
        each, None where it was not written [table_put_checks_version].
        """

    async def get(self, keys: Sequence[str]) -> Sequence[Row | None]:
        """Return the row of each key [table_get_in_order]."""

    async def delete(self, keys: Sequence[str], if_version: Sequence[int] | None = None) -> Sequence[bool]:
        """Delete rows, with ``if_version`` only in that version; say of each whether it was deleted
        [table_delete_checks_version].
        """

    async def page(self, prefix: str, after: str, limit: int) -> Sequence[Row]:
        """Return rows whose key begins with ``prefix`` and comes behind ``after``, in the order of their keys by code
        point, at most ``limit``; none: there are no more [table_page_in_order].
        """


class Log(Protocol):
    """Entries that everybody reads who comes later: for cancels and heartbeats, on a broker without a table. It has to
    have a topic, too.

    How long entries are kept is the driver's business: those of ``heartbeats`` for a minute at least, those of
    ``cancels`` for as long as somebody may cancel for. A driver's own logs have other names.
    """

    async def append(self, name: str, entries: Sequence[bytes]) -> None:
        """Store entries, in this order, behind those that are there [log_reads_what_was_appended]; no entry too.

        Concurrency: yes. Bound: one round trip. Cancelled: stored or not, each of them. Retry: never. Errors: raised:
        stored or not. Closed: whatever is native.
        """

    async def read(self, name: str, since: float = 0.0) -> Sequence[bytes]:
        """Return every entry in order that had been appended when this was called [log_reads_what_was_appended]; those
        from before ``since``, in epoch seconds, may be left out [log_since].

        Concurrency: yes [log_read_by_many]. Bound: a few round trips, and what there is. Cancelled: nothing happened.
        Retry: never. Errors: raised. Closed: whatever is native.
        """


class Topic(Protocol):
    """Live signals to whoever has subscribed before. Without one the kit makes it of the table, by looking often.

    Delivery is at least once, soon, in any order; a signal that is lost with a connection is found otherwise, because
    the kit reads the table again.

    Names are like keys of a :class:`Table`. Values are any bytes, none at all, too. With a table they are short as a
    rule: of a result up to 16 KiB, of a cancel up to some 6 KB (a key of 1,000 bytes, as JSON), of a command as much as
    its arguments are, which has no bound. Without a table results come whole, with up to ``max_message_size``. Where a
    broker limits what it tells, store the value and tell where it is; for a result, under a name that begins with
    ``r/``, an empty value will do instead where there is a table: the kit then reads the row.
    """

    # An attribute ``pushes_alone``, where it is true, has the kit push each result in the turn of the loop that it is
    # heard in, instead of together with what is heard in the same turn. So it is with a connection that is immediate.

    async def publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Tell each subscriber of a name the value [topic_reaches_subscribers].

        Concurrency: yes. Bound: one round trip. Cancelled: told or not. Retry: never. Errors: raised: told or not.
        Closed: whatever is native.
        """

    def subscribe(self, names: Sequence[str], heard: Heard) -> None:
        """From now on call ``heard`` with name and value, on the loop that this was called on. What was published
        before, or before :meth:`active` has returned, may be heard or not.

        Concurrency: yes, also for one name with another ``heard`` [topic_same_name_twice]. Bound: does not wait, and
        does no I/O of its own: a ``send`` later in the same tick travels behind it. Closed: ends with the connection.
        """

    def unsubscribe(self, names: Sequence[str], heard: Heard) -> None:
        """From now on call it no more; what was never subscribed is ignored [topic_unsubscribed_hears_nothing].

        Concurrency: yes. Bound: does not wait, and does no I/O of its own. Closed: does nothing.
        """

    async def active(self) -> None:
        """Return once what was subscribed before this call is: what is published from now on is heard
        [topic_active_hears_all].

        Concurrency: yes. Bound: one round trip. Cancelled: nothing happened. Retry: never. Errors: raised. Closed:
        whatever is native.
        """


class ReplyQueue(Protocol):
    """Results that come once, to who submitted: for a broker that keeps none, and has a way of its own to bring them.
    Without it, and without a table, the kit uses the topic, of which who is away hears nothing.
    """

    @property
    def address(self) -> str:
        """Where results for this process go: it travels as ``reply_to``. The same over each connection."""

    def hear(self, heard: Callable[[Sequence[StoredResult]], None]) -> None:
        """From now on call ``heard``, on the loop, with the results that come; what is sent from now on is sent when
        there is something that they can come to [result_pushed_to_submitter], and what comes while the connection is
        away comes over the next one [result_waits_for_submitter].

        Concurrency: once. Bound: does not wait, and does no I/O of its own. Closed: ends with the connection.
        """

    async def push(self, results: Sequence[StoredResult]) -> None:
        """Send each result to its ``reply_to``, which every one of them has; who is not there any more gets none.

        Concurrency: yes. Bound: one round trip. Cancelled: sent or not, each of them. Retry: never. Errors: raised:
        sent or not. Closed: whatever is native.
        """


class Connection(Protocol):
    """One connection to the broker, and what works over it. A new one is made after each loss: that is a generation.

    The driver opens it in the function that it gives to :class:`DriverBackend`, which raises when it cannot.
    """

    @property
    def queue(self) -> Queue:
        """All queues, over this connection."""

    @property
    def table(self) -> Table | None:
        """The rows, where there are any."""

    @property
    def topic(self) -> Topic | None:
        """Live signals, where there are any."""

    @property
    def lost(self) -> asyncio.Future[BaseException | None] | None:
        """Done, with the reason as its result (not as its exception), once nothing can be done over it any more. An
        error of ours that is permanent ends the backend; for every other reason a new connection is made. None: it
        cannot be lost; the kit then has no time limits, no keep-alive and no supervision.
        """

    @property
    def native(self) -> Any:
        """The driver's own object, for :attr:`~tranship.ports.Backend.native`."""

    # An attribute ``log``, where there is one, is a :class:`Log`; an attribute ``replies`` is a :class:`ReplyQueue`.
    #
    # An attribute ``address``, where there is one, goes into ``reply_to``: for a driver that brings results to who has
    # submitted, with a result store of its own, see :class:`OwnPorts`.

    async def ping(self) -> None:
        """Make one round trip."""

    def abort(self) -> None:
        """Give it up at once: what is under way fails, and ``lost`` is done. The kit calls it when a verb takes longer
        than it may, or raises what ``classify`` makes BrokerUnreachable of; also when it is lost already.
        """

    async def aclose(self) -> None:
        """Close it in order. Called once, also when it is lost."""


@runtime_checkable
class TellingTime(Protocol):
    """A connection to a broker that has a clock, and says what time it is. Deadlines and delays go by it."""

    async def now(self) -> float | None:
        """Return what time it is at the broker, in seconds since 1970; None: it does not say.

        Concurrency: yes. Bound: two round trips. Cancelled: nothing happened. Retry: never. Errors: raised. Closed:
        whatever is native.
        """


def replies_of(connection: Connection) -> ReplyQueue | None:
    """Return the reply queue of a connection; most have none."""
    found: ReplyQueue | None = getattr(connection, "replies", None)
    return found


def answers_submitters(connection: Connection) -> bool:
    """Whether results come to who submitted, and are kept nowhere."""
    return connection.table is None and (connection.topic is not None or replies_of(connection) is not None)


def log_of(connection: Connection) -> Log | None:
    """Return the log of a connection; most have none."""
    found: Log | None = getattr(connection, "log", None)
    return found


class LocalConnection:
    """The connection of a broker that is reached without one: files, memory.

    Args:
        queue, table, topic, lost, native, log, replies: as of any :class:`Connection`.
        immediate: no verb ever waits for anything: what it does is done when its coroutine is first run. The kit then
            calls the verbs without a task of their own: there is no moment to cancel them in.
        taskless: no verb asks for the task that it runs in, as :func:`asyncio.timeout` and task groups do. The kit then
            runs it in the task of who wants it, and has it go on in another one when that one is cancelled.
    """

    def __init__(
        self,
        queue: Queue,
        table: Table | None = None,
        topic: Topic | None = None,
        lost: asyncio.Future[BaseException | None] | None = None,
        native: Any = None,
        *,
        log: Log | None = None,
        replies: ReplyQueue | None = None,
        immediate: bool = False,
        taskless: bool = False,
    ) -> None:
        self.queue: Queue = queue
        self.table: Table | None = table
        self.topic: Topic | None = topic
        self.lost: asyncio.Future[BaseException | None] | None = lost
        self.native: Any = native
        self.log: Log | None = log
        self.replies: ReplyQueue | None = replies
        self.immediate: bool = immediate
        self.taskless: bool = taskless

    async def ping(self) -> None:
        """There is nobody to ask."""

    def abort(self) -> None:
        """It cannot be lost."""

    async def aclose(self) -> None:
        """There is nothing to close."""
