"""The ports themselves: what the core calls, and a backend answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tranship.envelope import DeadLetter, Receipt
from tranship.errors import TranshipError
from tranship.ports._capabilities import Capabilities
from tranship.ports._nouns import ConnectionEvent, Delivery, Received, Settled, Settlement, StoredResult
from tranship.protocol import Message

if TYPE_CHECKING:
    from tranship.ports._control import CancelReport, Command, Panel, PeerEvent, SignalSink, Tombstone
    from tranship.ports._heartbeat import Heartbeat
    from tranship.ports._queues import QueuedTask, QueueInfo
    from tranship.ports._worker_names import NameHolder

__all__ = [
    "Backend",
    "BriefInspector",
    "CancelMarks",
    "Consumer",
    "ControlChannel",
    "DeadLetterTaker",
    "EarlyConsumer",
    "Inspector",
    "NameKeeper",
    "PeerControl",
    "PromptSubmitter",
    "QueueBrowser",
    "ReaderInspector",
    "ResultSink",
    "ResultStore",
    "Submitter",
]


class Submitter(Protocol):
    """Hands messages over.

    Guarantees: a message it reports as accepted is stored as durably as DURABLE says.
    Duplicates are possible only after :class:`~tranship.errors.SubmitUnknown`.
    """

    @property
    def max_message_size(self) -> int:
        """The limit on body plus encoded headers in bytes. The core checks it before anything is written
        [submit_empty_and_max_body].
        """

    async def submit(self, messages: Sequence[Message]) -> Sequence[Receipt | TranshipError]:
        """Store every message and say of each, in order, what became of it.

        A message whose envelope has a ``not_before`` in the future is kept back until then
        (capability DELAY) [delay_not_early]. One with a ``dedup_key`` that is taken is not queued and
        answered with ``Receipt(duplicate_of=...)`` (KEY_WINDOW). One with ``check_id`` set is not queued
        when its id is known already: queued, running or with a result (RETRY_SAFE)
        [submit_again_is_recognised].

        Concurrency: yes; calls may be merged into one round trip.
        Bound: none of its own; the core bounds it. A dead connection is noticed by the driver.
        Cancelled: the outcome is unknown; the core never cancels it in flight.
        Retry: never.
        Errors: per item :class:`MessageTooLarge`, :class:`StorageFull`, :class:`SubmitUnknown` (the answer
            was lost) or :class:`BrokerUnreachable` (definitely not stored); one bad item does not harm its
            neighbours [submit_batch_partial_failure]. Raises only what concerns the whole backend.
        Closed: ClosedError [submit_after_close].
        """


@runtime_checkable
class PromptSubmitter(Submitter, Protocol):
    """A submitter whose answers come through callbacks anyhow: the core then spends no task on a round trip."""

    def post(self, messages: Sequence[Message], answered: Callable[[Sequence[Receipt | TranshipError]], None]) -> None:
        """Do what :meth:`submit` does, and call ``answered`` with the answers: once, later (not from inside this
        call) and on the backend's loop.

        Concurrency, Bound, Retry, Errors: as :meth:`submit`; nothing is raised, ClosedError is an answer, too.
        """


class Consumer(Protocol):
    """Takes messages from queues, strictly by level; queues rotate inside a level.

    Guarantees: at least once. Order within (queue, level) is first in, first out where ORDERED, without
    redelivery; a redelivered message keeps its place unless the backend documents otherwise.
    """

    @property
    def lease(self) -> float | None:
        """How long a delivery is ours without :meth:`extend`; None: as long as the connection lives."""

    @property
    def hard_limit(self) -> float | None:
        """The longest a delivery can be held whatever we do (a RabbitMQ consumer_timeout); None: no limit."""

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Return up to ``limit`` deliveries, as soon as there is at least one.

        ``skip`` names queues to leave alone this time. A message delivered at least twice before travels
        alone, so that a poison message takes no innocent one along [poison_takes_no_innocents].

        Concurrency: one call at a time; a second raises BusyError.
        Bound: returns empty after ``wait`` seconds (0: look once); wakes within 100 ms of a submit, without
            a polling loop [receive_empty_returns_empty].
        Cancelled: nothing is lost and no delivery is counted: what was taken is given back at once, or
            served by the next call [consumer_cancelled_cleanly]; CancelledError is raised [receive_cancel_is_raised].
        Retry: never.
        Errors: BrokerUnreachable, BrokerGone, StorageFull, StorageCorrupt.
        Closed: ClosedError; a call that waits returns or raises within a second
            [close_idempotent_and_while_blocked].
        """

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give untouched deliveries back, at the front, at once, not counted (count kind EXACT) or counted
        once (AT_LEAST) [shutdown_returns_prefetched].

        Concurrency: yes. Bound: one round trip. Cancelled: given back, or back after the lease.
        Retry: never. Errors: BrokerUnreachable. Closed: ClosedError; ``aclose`` releases what is held.
        """

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Renew leases by one full :attr:`lease` from now; say of each whether it is still ours.

        Backends that cannot tell answer True; the core's clock decides then. Where the lease is the connection there is
        nothing to renew: the core asks once a second, and at each event of the connection [extend_after_cut].

        Concurrency: yes. Bound: one round trip. Cancelled: renewed or not. Retry: never.
        Errors: BrokerUnreachable [lease_extend_keeps_owner]. Closed: ClosedError.
        """

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """Carry out verdicts, and say of each, in order, what became of it [settle_answers_each].

        With FUSED_SETTLE the result is stored in the same step, and neither happens when the delivery is no longer ours
        [ack_after_lease_lost]. REJECT keeps a durable copy before the original goes [reject_dead_letters]. REPLACE
        stores the replacement before the original goes, in one step where the broker can. Settling a delivery twice
        answers LOST and changes nothing [ack_twice_ok].

        Concurrency: yes. Bound: one round trip. Cancelled: settled or not; the core shields it.
        Retry: never. Errors: of one item, as its answer: it was not done, or it is unknown, and settling it again is
            safe; the others are not harmed. Raised, BrokerUnreachable or StorageFull: the same of
            all of them. Closed: ClosedError.
        """

    async def aclose(self) -> None:
        """Stop receiving and give back, uncounted, everything that has not been settled: what is held here and
        what has been handed out, whose leases end with it. Idempotent; safe while others wait.
        """


@runtime_checkable
class EarlyConsumer(Consumer, Protocol):
    """A consumer that can also take what is not due yet: for who carries a backlog elsewhere. Workers never do."""

    async def receive_early(self, limit: int) -> Received:
        """Return up to ``limit`` delayed messages before their time, the earliest first, as deliveries like any
        other [early_is_taken]. Looks once.

        Who gives one back puts it on the schedule again: REPLACE with the message itself. After a release, a
        NACK or a lost lease it is ready at once, and a worker that gets it schedules it again.

        Concurrency: not beside :meth:`receive`. Bound: one round trip or two. Cancelled: as :meth:`receive`.
        Retry, Errors, Closed: as :meth:`receive`.
        """


ResultSink = Callable[[Sequence[StoredResult]], None]


class ResultStore(Protocol):
    """Keeps terminal results and pushes them to who expects them."""

    def attach(self, sink: ResultSink) -> None:
        """Say where pushed results go: called on the backend's loop, with several at once, and possibly more
        than once for one id. There is one sink; attaching replaces it. Only where RESULT_PUSH.
        """

    def expect(self, ids: Sequence[str]) -> None:
        """From now on push the terminal results of ``ids``. Does not wait and does no I/O of its own: it may
        be sent with the next submit. Results stored before are not pushed: expect, then :meth:`get_many`
        [result_set_before_wait]. The backend expects again by itself after a lost connection.
        """

    def unexpect(self, ids: Sequence[str]) -> None:
        """Nobody waits for ``ids`` any more; unknown ids are ignored."""

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store terminal results; True: won, False: another terminal result was there first and stays
        [result_first_write_wins].

        Concurrency: yes. Bound: one round trip. Cancelled: stored or not. Retry: never; safe to repeat.
        Errors: BrokerUnreachable, StorageFull, MessageTooLarge. Closed: ClosedError.
        """

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Read what is known of each id, in order: a terminal result with its document, or a state.

        An id nobody knows is UNKNOWN; a store that cannot tell (no KNOWS_IDS) answers PENDING for it
        [result_unknown_id_not_pending].

        Concurrency: yes. Bound: one round trip. Cancelled: nothing happened. Retry: never.
        Errors: BrokerUnreachable. Closed: ClosedError.
        """

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Delete results; ids without one are ignored [result_forget_idempotent].

        Concurrency: yes. Bound: one round trip. Cancelled: deleted or not. Retry: never.
        Errors: BrokerUnreachable. Closed: ClosedError.
        """


class ControlChannel(Protocol):
    """A feed of signals: first every live tombstone, then what comes."""

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Start the feed as ``worker``; return once the replay of live tombstones has been handed over
        (synced), so that a worker admits nothing before it knows what is cancelled
        [cancel_survives_worker_restart], whatever the backend was used for before [cancel_known_after_other_work].
        As :data:`ONLOOKER` nobody is taken for a worker, and the rest is the same [command_reaches_onlookers].

        ``sink`` is called on the backend's loop, from then on within a second of each signal
        [cancel_running_signalled]; after a lost connection the replay comes again.

        Concurrency: once. Bound: one round trip and the replay. Cancelled: not listening.
        Retry: never. Errors: BrokerUnreachable. Closed: the feed ends.
        """

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Store tombstones durably, remove what is still queued where the broker can, and tell listeners.

        Concurrency: yes. Bound: one round trip. Cancelled: stored or not; safe to repeat. Retry: never.
        Errors: BrokerUnreachable, StorageFull. Closed: ClosedError.
        """

    async def send(self, command: Command) -> None:
        """Tell listening workers; lost when nobody listens.

        Concurrency: yes. Bound: one round trip. Cancelled: sent or not. Retry: never.
        Errors: BrokerUnreachable. Closed: ClosedError.
        """

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make the worker known to :meth:`Inspector.workers`, with everything it says [heartbeat_arrives_whole];
        forgotten after a minute without a beat, at once when it says ``stopping``. To be written with
        :func:`heartbeat_data` and read with :func:`heartbeat_of`: workers of other versions beat, too.

        Concurrency: yes. Bound: one round trip. Cancelled: known or not. Retry: never.
        Errors: BrokerUnreachable. Closed: ClosedError.
        """


@runtime_checkable
class CancelMarks(ControlChannel, Protocol):
    """A control channel of a broker where other programs cancel a key by leaving a mark, and that can tell."""

    async def marked(self, keys: Sequence[str]) -> Sequence[bool]:
        """Say of each cancel key, in order, whether somebody has left a mark for it: no tombstone, and told to nobody
        [cancel_marks_are_seen].

        Concurrency: yes. Bound: one round trip. Cancelled: nothing happened. Retry: never.
        Errors: BrokerUnreachable. Closed: ClosedError.
        """


@runtime_checkable
class NameKeeper(ControlChannel, Protocol):
    """A control channel that knows which worker has which name. With UNIQUE_NAMES."""

    async def take_name(self, holder: NameHolder, seconds: float) -> NameHolder | None:
        """Take a name for so long from now, or keep it for as much longer; None: it is the holder's. Else who has it,
        and nothing was changed [worker_name_has_one_holder]. The name of a predecessor in the family is taken over
        [worker_name_passes_in_family]; one whose time is over is free [worker_name_expires].

        Concurrency: yes; of several who take one name at once, one gets it. Bound: a few round trips. Cancelled: taken
        or not; safe to repeat. Retry: never. Errors: BrokerUnreachable, StorageFull. Closed: ClosedError.
        """

    async def free_name(self, holder: NameHolder) -> None:
        """Give a name up at once; one that is somebody else's stays his [worker_name_has_one_holder].

        Concurrency: yes. Bound: a few round trips. Cancelled: free or not; safe to repeat. Retry: never.
        Errors: BrokerUnreachable. Closed: ClosedError.
        """


@runtime_checkable
class PeerControl(ControlChannel, Protocol):
    """A control channel over which programs of another system (Celery's) ask workers, command them and look on."""

    @property
    def has_peers(self) -> bool:
        """Whether there are such programs on this broker, as far as the options say."""

    @property
    def clock(self) -> int:
        """What the logical clock says that puts in order what is said to them and heard from them."""

    def obey(self, panel: Panel) -> None:
        """Have ``panel`` do what they command, from the next :meth:`ControlChannel.listen` on; without one, what needs
        no worker is answered. It is called on the backend's loop.
        """

    async def announce(self, node: str, events: Sequence[PeerEvent]) -> None:
        """Tell whoever looks on what has happened at ``node``; lost when nobody does.

        Concurrency: yes. Bound: one round trip. Cancelled: told or not. Retry: never.
        Errors: BrokerUnreachable, BrokerRefused. Closed: ClosedError.
        """


class Inspector(Protocol):
    """What an operator sees and does. A method the broker cannot serve raises UnsupportedError.

    All methods: Concurrency: yes. Bound: one round trip. Cancelled: done or not. Retry: never.
    Errors: BrokerUnreachable. Closed: ClosedError.
    """

    @property
    def peek_disturbs(self) -> bool:
        """Whether looking at dead letters changes their order or count."""

    async def queues(self) -> Sequence[QueueInfo]:
        """Every queue with something in it, by name [inspect_counts]."""

    async def workers(self) -> Sequence[Heartbeat]:
        """The latest beat of every worker heard of in the last minute, by name; what is no heartbeat is left out."""

    async def dead(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        """Dead letters, oldest first, of one queue or of all, starting behind the dead letter ``after``."""

    async def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """The dead letters of these ids (a dead letter's own or its task's); unknown ones are left out."""

    async def dead_replay(self, ids: Sequence[str]) -> Sequence[str]:
        """Queue dead letters again, their terminal result forgotten and their delivery count 0, in one step
        each; return the ids that were found [dead_list_show_replay_purge]. Raises MalformedMessage, once every
        other one is queued, for those that the broker's other users could not bear in a queue.
        """

    async def dead_purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """Delete dead letters by id, of a queue, or all of them; return how many."""


@runtime_checkable
class ReaderInspector(Inspector, Protocol):
    """An inspector of a broker that others than tranship's workers read from, who send no heartbeats."""

    async def may_be_read(self, queue: str) -> bool:
        """Whether anybody may be reading ``queue`` who is no worker of ours; False: certainly nobody
        [unread_queue_refused].
        """


@runtime_checkable
class BriefInspector(Inspector, Protocol):
    """An inspector that says what is ready in some queues for less than :meth:`queues` costs: an idle worker asks now
    and then whether it is idle for a reason.
    """

    async def ready(self, queues: Collection[str]) -> int:
        """How many messages could be received from ``queues`` now, on all levels together [inspect_ready_in_queues]."""


@runtime_checkable
class QueueBrowser(Inspector, Protocol):
    """An inspector that shows what waits in a queue, and takes single tasks out of it. With BROWSE."""

    async def waiting(self, queue: str, *, limit: int = 100) -> Sequence[QueuedTask]:
        """The first ``limit`` tasks that no worker has: those that are ready in the order in which they would be taken,
        then those that are delayed, the next that is due first [inspect_waiting_in_order].
        """

    async def purge(self, queue: str, ids: Sequence[str] | None = None) -> Sequence[str]:
        """Remove waiting tasks from a queue, those of ``ids`` or all; return the ids of those that are gone. Whoever
        waits for one hears that it was cancelled; what a worker has is left alone [inspect_purge_one,
        inspect_purge_all].

        Cancelled: some are gone. Errors: BrokerUnreachable: some may be.
        """


@runtime_checkable
class DeadLetterTaker(Inspector, Protocol):
    """An inspector that also takes dead letters of another broker in."""

    async def dead_add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep ``letters`` among the dead letters, durably and in this order, with reason, detail, count and time
        of death as given; ``messages`` are what is replayed. Their own ids may be new ones
        [dead_add_keeps_everything].

        Adding a letter twice may keep it twice: the caller looks first. Cancelled: added or not.
        Errors: BrokerUnreachable, StorageFull: some have been added perhaps.
        """


class Backend(Protocol):
    """One open connection, or a small set of them, to one broker; bound to the loop that opened it."""

    @property
    def name(self) -> str:
        """The plugin's name, such as ``"sqlite"``."""

    @property
    def url(self) -> str:
        """Where it is connected, without secrets [url_roundtrip_and_redaction]."""

    @property
    def capabilities(self) -> Capabilities:
        """Known once :meth:`open` has returned (they depend on the server) [capabilities_truthful]."""

    @property
    def address(self) -> str | None:
        """What goes into ``Envelope.reply_to`` so that results find their way here; None: not needed."""

    @property
    def warnings(self) -> Sequence[str]:
        """What is set at the server in a way that loses or delays work, each with its cure; known once
        :meth:`open` has returned. ``tranship doctor`` shows them.
        """

    @property
    def native(self) -> Any:
        """The driver's own object; the documented escape hatch. The core never uses it."""

    async def open(self) -> None:
        """Connect and probe the server.

        Concurrency: once. Bound: the connect timeout. Cancelled: closed. Retry: never.
        Errors: BrokerUnreachable, BrokerRefused (permanent) [auth_failure_is_permanent], StorageCorrupt,
            UnsupportedError. Closed: ClosedError.
        """

    async def aclose(self) -> None:
        """Close everything and return to the baseline of connections, files and threads. Idempotent, safe if
        never opened, safe while others wait [close_idempotent_and_while_blocked,
        no_leaked_connections_after_close].
        """

    async def ping(self) -> None:
        """One round trip to the broker, on the path a submit takes. Errors: as :meth:`Submitter.submit`."""

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        """Call ``listener(event, generation)`` on the backend's loop when the connection is lost or restored; once
        :meth:`open` has returned.
        """

    async def ensure(self, queues: Sequence[str]) -> None:
        """Create what the queues need, where anything needs creating; never changes what exists."""

    def submitter(self) -> Submitter:
        """The one submitter."""

    def consumer(self, queues: Sequence[str]) -> Consumer:
        """A new consumer of ``queues``."""

    def results(self) -> ResultStore:
        """The one result store. Raises UnsupportedError with neither RESULTS nor RESULT_PUSH; with RESULT_PUSH alone
        ``put`` sends a result to its ``reply_to``, and ``get_many`` raises UnsupportedError.
        """

    def control(self) -> ControlChannel:
        """The one control channel. Raises UnsupportedError without CONTROL."""

    def inspector(self) -> Inspector:
        """The one inspector."""
