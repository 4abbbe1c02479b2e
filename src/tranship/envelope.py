"""The nouns: what travels, what comes back. Frozen and inert; they import no port and do no I/O."""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from tranship.errors import (
    ClaimCheckError,
    DeadlineExceeded,
    InvalidOptionError,
    ResultTimeout,
    TaskCancelled,
    TaskDeadLettered,
    TaskFailed,
    TaskNotFound,
    TaskTimedOut,
    TranshipError,
)
from tranship.retry import RetryPolicy

__all__ = [
    "JOIN_TASK",
    "PROBE_TASK",
    "TRANSITIONS",
    "Claim",
    "DeadLetter",
    "Draft",
    "Ending",
    "Envelope",
    "ErrorInfo",
    "Priority",
    "Receipt",
    "TaskResult",
    "TaskState",
    "WorkflowResult",
    "WorkflowStep",
    "new_id",
    "new_ids",
    "receipts",
]

NO_HEADERS: Final[Mapping[str, Any]] = {}

JOIN_TASK: Final = "celery.accumulate"
"""A task that every worker has, Celery's and ours: it returns its arguments, or the one that ``index`` says."""

PROBE_TASK: Final = "tranship.probe"
"""The task every worker answers by itself; no user code runs."""


class Priority(enum.IntEnum):
    """Four levels with one meaning on every broker; a smaller number is served first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2
    VERY_LOW = 3

    @property
    def label(self) -> str:
        """The level's name as users write it: ``"high"``, ``"normal"``, ``"low"``, ``"very_low"``."""
        return self.name.lower()

    @classmethod
    def parse(cls, value: Priority | str) -> Priority:
        """Return the level named by ``value``.

        Raises:
            InvalidOptionError: it names none of the four.
        """
        if isinstance(value, Priority):
            return value
        try:
            return cls[value.upper()]
        except (KeyError, AttributeError):
            names = ", ".join(level.label for level in cls)
            raise InvalidOptionError(f"priority {value!r} is unknown; use one of {names}") from None


class TaskState(enum.StrEnum):
    """Where a task is. :data:`TRANSITIONS` is the documented graph."""

    UNKNOWN = "UNKNOWN"
    """The store does not know the id."""
    PENDING = "PENDING"
    """Queued, to be taken by a worker; also an id of which a store cannot tell (no capability KNOWS_IDS)."""
    SCHEDULED = "SCHEDULED"
    """Waiting for its not-before time; PENDING where neither the broker nor this connection can tell."""
    STARTED = "STARTED"
    """A worker holds it."""
    RETRY = "RETRY"
    """An attempt failed; the next one is scheduled."""
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    """Its deadline passed."""
    DEAD_LETTERED = "DEAD_LETTERED"
    """Given up; kept among the dead letters, from where it may be replayed."""

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in _TERMINAL


_TERMINAL: Final = frozenset(
    {TaskState.SUCCESS, TaskState.FAILURE, TaskState.CANCELLED, TaskState.EXPIRED, TaskState.DEAD_LETTERED}
)

TRANSITIONS: Final[Mapping[TaskState, frozenset[TaskState]]] = {
    TaskState.UNKNOWN: frozenset({TaskState.PENDING, TaskState.SCHEDULED}),
    TaskState.SCHEDULED: frozenset({TaskState.PENDING, TaskState.CANCELLED, TaskState.EXPIRED}),
    TaskState.PENDING: frozenset(
        {TaskState.STARTED, TaskState.CANCELLED, TaskState.EXPIRED, TaskState.DEAD_LETTERED, TaskState.FAILURE}
    ),
    TaskState.STARTED: _TERMINAL | {TaskState.RETRY, TaskState.PENDING},
    TaskState.RETRY: frozenset(
        {TaskState.PENDING, TaskState.STARTED, TaskState.CANCELLED, TaskState.EXPIRED, TaskState.DEAD_LETTERED}
    ),
    TaskState.DEAD_LETTERED: frozenset({TaskState.PENDING}),
    TaskState.SUCCESS: frozenset(),
    TaskState.FAILURE: frozenset(),
    TaskState.CANCELLED: frozenset(),
    TaskState.EXPIRED: frozenset(),
}
"""Which state may follow which (conformance: ``state_transitions_legal``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One task on its way: who is called with what, and under which conditions.

    All times are absolute epoch seconds; durations are seconds.
    """

    id: str
    """The task's id; its retries keep it."""
    task: str
    """The name that a handler is registered under."""
    # Not shown: in the form that is sent, secrets among them are readable.
    args: Sequence[Any] = field(default=(), repr=False)
    """Positional arguments, in the form that is sent."""
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Keyword arguments, in the form that is sent."""
    queue: str = "default"
    """Where it is sent to, without the namespace."""
    priority: Priority = Priority.NORMAL
    """One of four levels; the more urgent ones are served first."""
    deadline: float | None = None
    """The task must have finished by then, wherever it is."""
    run_timeout: float | None = None
    """How long one attempt may run."""
    cancel_key: str | None = None
    """Many tasks may share one; cancelling the key cancels them all."""
    persistent_output: bool = False
    """Whatever the task leaves behind (files, objects) is to be kept."""
    not_before: float | None = None
    """Nobody is to begin it earlier; None: at once."""
    dedup_key: str | None = None
    """A second task with the same key is not stored while the key is taken."""
    dedup_window: float | None = None
    """How long the key stays taken; None: the backend's default."""
    retry: RetryPolicy | None = None
    """When it is tried again; None: the worker's own task decides."""
    attempt: int = 0
    """How many attempts came before this one."""
    store_result: bool | None = None
    """Whether somebody waits for its result; None: nobody has said so, and the worker's own task decides."""
    result_ttl: float | None = None
    """How long the result is kept; None: the backend's default."""
    headers: Mapping[str, Any] = field(default_factory=lambda: NO_HEADERS)
    """Trace context, the user's own headers, and wire headers that are unknown to us: kept and passed on."""
    reply_to: str | None = None
    """The address of who submitted it, where results are pushed to addresses; see ``Backend.address``."""
    group_id: str | None = None
    """The batch it belongs to, where Celery has one."""
    parent_id: str | None = None
    """The task that submitted it."""
    root_id: str | None = None
    """The first of the tasks that led to it."""
    content_type: str = "application/json"
    """How the arguments are written."""

    @property
    def keeps_result(self) -> bool:
        """Whether its result is kept: it is unless somebody has said no, the submitter or else the worker."""
        return self.store_result is not False


class Draft:
    """An envelope that can still be written: the same slots, without the frozen dataclass's ``__setattr__``.

    Filling one, every slot of it, and then calling :meth:`finish` is five times faster than the envelope's
    constructor.
    """

    __slots__ = tuple(part.name for part in fields(Envelope))

    def finish(self) -> Envelope:
        """Make the draft an envelope, frozen from here on: the two are twins in layout."""
        twin: Any = self
        twin.__class__ = Envelope
        envelope: Envelope = twin
        return envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """A failure in a form that crosses the wire: text and data, never a pickled exception."""

    type: str
    """The exception's qualified name, such as ``"builtins.ValueError"``."""
    message: str
    code: str = "TASK_FAILED"
    retryable: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    traceback: str | None = None
    error_type: str = ""
    """What the handler calls it; empty: its class without the module, which is then what stands here."""
    arguments: Sequence[Any] | None = None
    """What the exception was made of, each apart, as of ``KeyError("user", 7)``; None: the message alone."""
    module: str = ""
    """The module of its class, which a nested class's type alone does not tell; empty: the type without its last name,
    which is then what stands here."""

    def __post_init__(self) -> None:
        above, _, name = self.type.rpartition(".")
        if not self.error_type:
            object.__setattr__(self, "error_type", name)
        if not self.module:
            object.__setattr__(self, "module", above)
        if self.arguments is not None:
            alone = len(self.arguments) == 1 and self.arguments[0].__class__ is str
            known = alone and self.arguments[0] == self.message
            object.__setattr__(self, "arguments", None if known else tuple(self.arguments))


if TYPE_CHECKING:
    import typing_extensions

    from tranship.outcomes import Progress

    R_co = typing_extensions.TypeVar("R_co", covariant=True, default=Any)
else:
    R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(Generic[R_co]):
    """What is known of a task: its state and, once terminal, its value or its error."""

    id: str
    state: TaskState
    value: Any = None
    error: ErrorInfo | None = None
    attempt: int = 0
    finished_at: float | None = None
    """Epoch seconds at which the terminal state was written, by the writer's clock."""
    worker: str | None = None
    status: str | None = None
    """What a handler that returned an :class:`~tranship.Outcome` calls it; None: it returned a plain value."""
    progress: Progress | None = None
    """How far it was when it was asked for, before its end; None: nothing is known of that."""

    @property
    def success(self) -> bool:
        """Whether the task ended well."""
        return self.state is TaskState.SUCCESS

    def unwrap(self) -> R_co:
        """Return the value of a successful task, or raise what its state stands for.

        Raises:
            TaskFailed, TaskTimedOut, DeadlineExceeded, TaskCancelled, TaskDeadLettered: by state.
            TaskNotFound: the store does not know the id.
            ClaimCheckError: the value is kept elsewhere, and no middleware of the client has fetched it.
        """
        if self.state is TaskState.SUCCESS:
            value: R_co = self.value
            if value.__class__ is Claim:
                raise self.value.unclaimed(f"the result of task {self.id}", "the client", self.id)
            return value
        raise self.exception()

    def exception(self) -> TranshipError:
        """The exception that :meth:`unwrap` raises for a state that is not SUCCESS."""
        message = self.error.message if self.error else f"task {self.id} is {self.state}"
        if self.error is not None and self.error.code == ResultTimeout.code and not self.state.terminal:
            return ResultTimeout(message, task_id=self.id)
        if self.state is TaskState.CANCELLED:
            return TaskCancelled(message, task_id=self.id)
        if self.state is TaskState.EXPIRED:
            return DeadlineExceeded(message, task_id=self.id)
        if self.state in (TaskState.FAILURE, TaskState.DEAD_LETTERED):
            return self._failure(message)
        return TaskNotFound(
            f"task {self.id} is {self.state}: it has no result "
            "(never submitted here, forgotten, or its result expired)",
            task_id=self.id,
        )

    def _failure(self, message: str) -> TranshipError:
        error = self.error or ErrorInfo(type="", message=message)
        if error.code == TaskTimedOut.code and self.state is TaskState.FAILURE:
            return TaskTimedOut(message, task_id=self.id)
        kind = TaskDeadLettered if self.state is TaskState.DEAD_LETTERED else TaskFailed
        return kind(
            message,
            type=error.type,
            error_type=error.error_type,
            code=error.code,
            retryable=error.retryable,
            details=error.details,
            traceback=error.traceback,
            arguments=error.arguments,
            task_id=self.id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowStep(TaskResult[Any]):
    """What is known of one task of a workflow. It is PENDING, too, as long as its turn has not come."""

    task: str
    """The task's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResult(TaskResult[R_co]):
    """What is known of a workflow: the state of the whole, once terminal its value or error, and each step's."""

    steps: tuple[WorkflowStep, ...] = ()
    """Its tasks, in the order in which they were written down."""


class Claim:
    """Stands for arguments, as the only one of them, or for a result that is too large for the broker: a claim check.

    A middleware puts it there and fetches what it stands for, such as ``LargePayloads`` of tranship-objectstore.

    Args:
        uri: where the codec's JSON of ``[args, kwargs]``, or of the value, is kept.
        size: its bytes.
    """

    __slots__ = ("size", "uri")

    def __init__(self, uri: str, size: int) -> None:
        self.uri: str = uri
        self.size: int = size

    @staticmethod
    def of(args: Sequence[Any]) -> Claim | None:
        """Return what the arguments are; None: they are themselves."""
        return args[0] if args and args[0].__class__ is Claim else None

    def unclaimed(self, what: str, whose: str, task_id: str) -> ClaimCheckError:
        """Return the error for ``what`` it stands for, which nothing of ``whose`` has fetched."""
        return ClaimCheckError(
            f"{what} has {self.size} bytes and is kept at {self.uri}; nothing here fetches it: give {whose} "
            "middleware=[LargePayloads(...)] with the store that the sender uses (in a clone of tranship: "
            "pip install ./plugins/tranship-objectstore)",
            task_id=task_id,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Claim) and (self.uri, self.size) == (other.uri, other.size)

    def __hash__(self) -> int:
        return hash((self.uri, self.size))

    def __repr__(self) -> str:
        return f"Claim({self.uri!r}, {self.size})"


class Ending(enum.Enum):
    """How one delivery ended; the closed set that settlement knows."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRY = "retry"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD = "dead"
    """To the dead letters, with a reason."""
    RELEASED = "released"
    """Given back untouched."""
    LOST = "lost"
    """The lease ended before we did; nothing is written."""
    ANSWERED = "answered"
    """It came again with its result there already, and did not run again."""
    HELD = "held"
    """It waits for its turn and comes again then, or is a copy of one that does or did."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The broker has the task."""

    id: str
    duplicate_of: str | None = None
    """The id of the task that was there first (dedup key, or the same id again); this one was not queued."""


class _Acceptance:
    """A receipt that can still be written; see :class:`Draft`."""

    __slots__ = ("duplicate_of", "id")

    def __init__(self, task_id: str) -> None:
        self.id = task_id
        self.duplicate_of: str | None = None


def receipts(ids: Iterable[str]) -> list[Receipt]:
    """Return a receipt for each of ``ids``, at half of what the constructor costs."""
    made: Any = list(map(_Acceptance, ids))
    for one in made:
        one.__class__ = Receipt
    found: list[Receipt] = made
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A task that was given up, with the reason and everything needed to run it again."""

    id: str
    """The dead letter's own id (not the task's), stable over copies."""
    task_id: str | None
    """The task's id; None: the message cannot be read."""
    task: str | None
    """The task's name; None: likewise."""
    queue: str
    """Where it was, and where a replay sends it."""
    priority: Priority
    """The level it was on."""
    reason: str
    """Why, in one word, such as ``retries-exhausted`` or ``delivery-limit``."""
    detail: str
    """What happened, for people."""
    deliveries: int
    """How often the message of its last attempt was delivered: once, unless workers died or lost it. A retry is a new
    message, whose count begins anew."""
    died_at: float
    """Epoch seconds."""
    headers: Mapping[str, Any]
    """The message's own header map."""
    body: bytes = field(repr=False)
    """The message's body as it was."""
    content_type: str
    """What the body is."""


def new_id() -> str:
    """Return a fresh task id: UUID version 7 text, so that ids made later sort later.

    Time-ordered ids fill a database index twice as fast as random ones.
    """
    return new_ids(1)[0]


def new_ids(count: int) -> list[str]:
    """Return ``count`` fresh ids in order: for a batch, at half of what they cost one by one."""
    millis, rest = divmod(time.time_ns(), 1_000_000)
    # The fraction of the millisecond goes into rand_a (12 bits), so ids of one process rarely go backwards.
    begin = (millis << 12) + rest * 4096 // 1_000_000
    # Not the random module: who seeds it, as tests and training scripts do, would make twins of our ids.
    noise = os.urandom(8 * count).hex("-", 8).split("-")
    ids: list[str] = []
    while len(ids) < count:
        # All ids of the same millisecond have the same head.
        made, (head, low) = len(ids), divmod(begin + len(ids), 4096)
        head_text = f"{head >> 16:08x}-{head & 0xFFFF:04x}-7"
        part = noise[made : made + 4096 - low]
        ids += [f"{head_text}{at:03x}-8{rest[1:4]}-{rest[4:]}" for at, rest in enumerate(part, low)]
    return ids


def made_at(task_id: str) -> float | None:
    """Return when an id of ours was made, in epoch seconds; None: it is another kind of id."""
    try:
        return int(task_id[:8] + task_id[9:13], 16) / 1000 if len(task_id) == 36 and task_id[14] == "7" else None
    except ValueError:
        return None
