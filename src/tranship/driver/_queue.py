"""What a driver implements: a queue of three verbs, and the further verbs of a queue, each found by its presence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tranship.driver._nouns import (
    Answer,
    Ending,
    Outgoing,
    QueueTraits,
    Slot,
    Stored,
    Taken,
    TakenBatch,
    Undo,
)
from tranship.errors import TranshipError
from tranship.ports import Settled

if TYPE_CHECKING:
    from tranship.ports import QueueInfo

__all__ = [
    "Counting",
    "CountingSome",
    "Ensuring",
    "Finding",
    "Interruptible",
    "Peeking",
    "Picking",
    "Posting",
    "Pushing",
    "Queue",
    "Reader",
    "Reading",
    "Recalling",
    "Renewing",
    "Scanning",
    "Searching",
    "Shared",
    "Watching",
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
