"""What a driver implements: a queue, and what it can do besides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tranship.driver._nouns import (
    Answer,
    Ending,
    Heard,
    Outgoing,
    QueueTraits,
    Row,
    Slot,
    Stored,
    Taken,
    TakenBatch,
    Undo,
)
from tranship.errors import TranshipError
from tranship.ports import Settled, StoredResult

if TYPE_CHECKING:
    from tranship.ports import QueueInfo

__all__ = [
    "Connection",
    "Counting",
    "CountingSome",
    "Ensuring",
    "Finding",
    "Interruptible",
    "LocalConnection",
    "Log",
    "Peeking",
    "Picking",
    "Posting",
    "Pushing",
    "Queue",
    "Reader",
    "Reading",
    "Recalling",
    "Renewing",
    "ReplyQueue",
    "Scanning",
    "Searching",
    "Table",
    "TellingTime",
    "Topic",
    "Watching",
    "answers_submitters",
    "log_of",
    "replies_of",
    "traits_of",
]


class Queue(Protocol):
    """All queues of the broker, seen over one connection. These three verbs make a backend that submits and works.

    An attribute ``traits``, a :class:`QueueTraits`, says what they do beyond that. The other verbs are protocols of
    their own below, found by their presence.

    "Bound: one round trip" holds for the first time, too: what a client library prepares when it is first used, such as
    statements, is prepared when the connection is made.

    Names of queues are whole characters, at most 255 bytes in UTF-8, and have no control characters. Ids are so, too,
    but may have those, NUL above all; of foreign clients they are whatever those make them. What a broker cannot write
    is answered with an :class:`~tranship.errors.EncodeError` for that one message.
    """

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        """Store messages and say of each, in order, what became of it, see :data:`Answer` [queue_send_answers_each].

        Concurrency: yes; one submit has at most ``limits.under_way`` under way.
        Bound: one round trip.
        Cancelled: only when the backend is closed; stored or not.
        Retry: never. An id that was sent before may be sent again; see ``unique`` [queue_unique].
        Errors: of one item, as its answer. Raised: nothing of the batch is stored, unless ``classify`` makes
            BrokerUnreachable of it; then each of them may be.
        Closed: whatever is native.
        """

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Take up to ``limit`` messages of ``slots``, the most urgent slot first [queue_take_levels_in_order].

        What is taken is nobody else's until it is ended or its lease is over [queue_held_is_not_taken]. The kit gives
        slots of one level in turns, sends suspects alone, and buffers nothing but what was taken here.

        Concurrency: one at a time for each consumer; several consumers share a connection.
        Bound: looks once; with the trait ``waits`` up to ``wait`` seconds for the first message, and may return early
            [queue_take_waits].
        Cancelled: only when the consumer or the backend is closed; what had been taken is given back, or is again to be
            had after its lease.
        Retry: never.
        Errors: raised: nothing was taken, or it comes again after its lease.
        Closed: whatever is native.
        """

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled | TranshipError]:
        """End messages that were taken, and say of each, in order, whether it was ours [queue_end_answers_each].

        CONFIRMED: done. SENT: on its way, without an answer to come. LOST: it was not ours any more, and nothing was
        done, neither with ``rows`` nor with ``then`` [queue_end_twice_is_lost]. An error: that one was not done. What
        is over its lease and was taken by nobody since may be either: CONFIRMED, and then all of it is done, or LOST.

        Concurrency: yes, for different tokens.
        Bound: one round trip.
        Cancelled: only when the backend is closed; done or not.
        Retry: never. The kit may end a token again whose answer was lost.
        Errors: of one item, as its answer. Raised: nothing was done, or it is unknown.
        Closed: whatever is native.
        """


def traits_of(queue: Queue) -> QueueTraits:
    """Return the traits of a queue; those of one that says nothing are the least."""
    found: QueueTraits = getattr(queue, "traits", QueueTraits())
    return found


@runtime_checkable
class Posting(Protocol):
    """A queue whose broker answers through callbacks anyhow: a send then costs no task."""

    def post(self, batch: Sequence[Outgoing], done: Callable[[Sequence[Answer] | Exception], None]) -> None:
        """Do what :meth:`Queue.send` does, and call ``done`` with its answers, or with what it would have raised
        [queue_post_answers_each].

        The kit posts what needs nothing before it and nothing after it; the rest it sends. ``done`` is called once and
        on the loop, from inside this call or later, also when the connection goes.

        Concurrency: yes. Bound: does not wait. Cancelled: cannot be. Retry: never. Errors: raised: nothing of the batch
        is stored; otherwise as of :meth:`Queue.send`. Closed: whatever is native.
        """


@runtime_checkable
class Recalling(Posting, Protocol):
    """A queue that posts, and finds out over a later connection what became of what was posted when one went."""

    async def recall(self, batches: Sequence[Sequence[Outgoing]]) -> Sequence[Sequence[Answer]]:
        """Say what became of batches that were posted, the very sequences, over connections that have gone without an
        answer [queue_recall_tells]: of each message as :meth:`Queue.send` does; what is not stored never will be.

        The kit asks once over each new connection, before it says that there is one, and again while it is refused.
        Whoever submits waits for that, instead of being told that nobody knows.

        Concurrency: one at a time. Bound: a round trip for each connection that has gone. Cancelled: nothing happened.
        Retry: never. Errors: raised. Closed: whatever is native.
        """


@runtime_checkable
class Renewing(Protocol):
    """A queue with leases."""

    async def renew(self, tokens: Sequence[Any]) -> Sequence[bool]:
        """Let each token last for one full lease from now; say of each whether it is ours [queue_renew_keeps].

        Where settling is not fused, the kit asks this before it stores what belongs to an end: True for what is not
        ours lets somebody without the message write its result [queue_renew_tells_lost]. What is over its lease and
        was taken by nobody since may be renewed, or be lost.

        Concurrency: yes. Bound: one round trip. Cancelled: at close; renewed or not. Retry: never. Errors: raised:
        renewed or not. Closed: whatever is native.
        """


@runtime_checkable
class Watching(Protocol):
    """A queue that tells when there is something to take; the kit then looks no more than that."""

    def watch(self, slots: Sequence[Slot], heard: Callable[[], None]) -> Undo:
        """Call ``heard`` whenever something may have become ready in ``slots`` by being sent or given back, once at
        least after the latest of it [queue_watch_wakes]. Too often does no harm. What becomes ready by the passing of
        time is told by :attr:`TakenBatch.next_due` instead.

        Concurrency: yes; several watch. Bound: does not wait, and does no I/O of its own. ``heard`` is called on the
        loop that ``watch`` was called on. Closed: ends with the connection.
        """


@runtime_checkable
class Pushing(Protocol):
    """A queue, or a reader, whose broker sends messages by itself, to whoever has said how many he takes."""

    def demand(self, slots: Sequence[Slot], credit: int) -> None:
        """From now on let the broker send up to ``credit`` messages that nobody has taken yet; 0: none.

        ``take`` then brings what has arrived, all of it, and waits for more; what it brings beyond its limit lies in
        the kit's prefetch buffer. A take that waits for other slots returns. The kit demands as much as a receive asks
        for, and nothing soon after nobody asks: what is there by then it takes and releases, so that others get it.

        Concurrency: one consumer each. Bound: does not wait. Closed: ends with the connection.
        """


@runtime_checkable
class Interruptible(Protocol):
    """A queue whose takes wait, and can be told to wait no longer. Others end in their own time."""

    def interrupt(self, slots: Sequence[Slot]) -> None:
        """Have the take that was given this very sequence return soon, with what has come: its consumer wants other
        slots now [queue_take_interrupted]. What comes too late for it is served by a later take, or is again to be had.

        Concurrency: yes. Bound: does not wait. Closed: does nothing.
        """


class Reader(Protocol):
    """What one consumer takes with. It ends with its connection; another one is made over the next."""

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Do what :meth:`Queue.take` does, for this consumer."""

    # A ``demand`` is the consumer's own, see :class:`Pushing`.

    async def aclose(self) -> None:
        """Give back what it holds for its consumer. Called once, when that is closed and has given back what it had.

        Bound: a few round trips. Cancelled: at close. Retry: never. Errors: raised: what was held comes again. Closed:
        whatever is native.
        """


@runtime_checkable
class Reading(Protocol):
    """A queue that has something of each consumer's own: a channel, credit, what has arrived for it [queue_reader]."""

    def reader(self) -> Reader:
        """Return what another consumer takes with.

        Concurrency: yes. Bound: does not wait, and does no I/O of its own.
        """


@runtime_checkable
class Finding(Protocol):
    """A queue with an index by id, and by cancel key."""

    async def find(self, ids: Sequence[str], cancel_keys: Sequence[str]) -> Sequence[Stored]:
        """Return every message with one of the ids or keys: ready, delayed [queue_find_delayed] or held
        [queue_find_tells_state].

        It makes KNOWS_IDS true, and lets the kit cancel what is queued.

        Concurrency: yes. Bound: one round trip. Cancelled: nothing happened. Retry: never. Errors: raised. Closed:
        whatever is native.
        """


@runtime_checkable
class Searching(Protocol):
    """A queue that has no index of what is ready, and can be searched all the same."""

    async def search(self, queue: str, ids: Sequence[str]) -> Sequence[Stored]:
        """Return what has one of the ids and is ready or delayed in this queue, after a look at everything in it
        [queue_search_finds].

        It is for operators, who name tasks to be purged; a cancel does not wait for it.

        Concurrency: yes. Bound: none; each of its round trips is short. Cancelled: nothing happened. Retry: never.
        Errors: raised. Closed: whatever is native.
        """


@runtime_checkable
class Scanning(Protocol):
    """A queue that can be looked through."""

    async def scan(self, queue: str, state: str, limit: int) -> Sequence[Stored]:
        """Return the first ``limit`` messages of a queue that are ``ready``, ``delayed`` or ``held``: as they would be
        taken, or become due [queue_scan_in_order].

        Concurrency, Bound, Cancelled, Retry, Errors, Closed: as :meth:`Finding.find`.
        """


@runtime_checkable
class Picking(Protocol):
    """A queue of which single messages can be taken."""

    async def pick(self, refs: Sequence[Any]) -> Sequence[Taken]:
        """Take exactly these, ready or delayed, in this order; those that are held or gone are left out
        [queue_pick_takes_exactly].

        Concurrency, Bound, Cancelled, Retry, Errors, Closed: as :meth:`Queue.take`.
        """


@runtime_checkable
class Peeking(Protocol):
    """A queue of which messages can be put aside and looked at. Only dead letters need it, where there is no table, and
    only on a broker where what was taken once is not the same any more; otherwise the kit takes them.
    """

    async def peek(self, queue: str, limit: int) -> Sequence[Taken]:
        """Take up to ``limit`` messages of the level ``normal`` of a queue; fewer: there are no more. However often
        that is done, they are as they were [queue_peek_changes_nothing].

        They are nobody else's until they are ended, with REMOVE or RELEASE, or the connection is.

        Concurrency: yes. Bound: one round trip. Cancelled, Retry, Errors, Closed: as :meth:`Queue.take`.
        """


@runtime_checkable
class Counting(Protocol):
    """A queue that knows how much is in it."""

    async def queues(self) -> Sequence[QueueInfo]:
        """Return every queue with something in it; without delayed messages where the kit keeps them [queue_counts].
        Where there is no table, its dead letters are a queue like any other.

        Concurrency, Bound, Cancelled, Retry, Errors, Closed: as :meth:`Finding.find`.
        """


@runtime_checkable
class CountingSome(Protocol):
    """A queue that is faster in counting what is in some queues than in all of them."""

    async def ready(self, queues: Collection[str]) -> int:
        """Return how many messages could be taken from ``queues`` now [inspect_ready_in_queues].

        Concurrency, Bound, Cancelled, Retry, Errors, Closed: as :meth:`Finding.find`.
        """


@runtime_checkable
class Shared(Protocol):
    """A queue that others than tranship's workers read from, such as Celery's."""

    async def may_be_read(self, queue: str) -> bool:
        """Say whether anybody may be reading ``queue`` who is no worker of tranship's; False: certainly nobody
        [unread_queue_refused]. Where that cannot be known it is True.

        Concurrency, Bound, Cancelled, Retry, Errors, Closed: as :meth:`Finding.find`.
        """


@runtime_checkable
class Ensuring(Protocol):
    """A queue that has to be made."""

    async def ensure(self, queues: Sequence[str]) -> None:
        """Create what these queues need; never change what is there.

        Concurrency: yes. Bound: a few round trips. Cancelled: at close. Retry: never. Errors: raised. Closed: whatever
        is native.
        """


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
        self.queue, self.table, self.topic, self.lost, self.native = queue, table, topic, lost, native
        self.log, self.replies, self.immediate, self.taskless = log, replies, immediate, taskless

    async def ping(self) -> None:
        """There is nobody to ask."""

    def abort(self) -> None:
        """It cannot be lost."""

    async def aclose(self) -> None:
        """There is nothing to close."""
