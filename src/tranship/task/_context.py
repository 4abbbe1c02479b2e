"""What a running handler can know and ask: its task, the time that is left, whether to stop."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from tranship.envelope import Envelope
from tranship.errors import (
    ConfigurationError,
    DeadlineExceeded,
    LeaseLost,
    MessageTooLarge,
    TaskCancelled,
    TaskTimedOut,
    TranshipError,
    UnsupportedError,
)
from tranship.task._durable import Durable, DurableContext

if TYPE_CHECKING:
    from tranship.outcomes import Progress
    from tranship.task._hot_cache import HotCache

__all__ = [
    "CancelReason",
    "Emitted",
    "TaskContext",
    "Telling",
    "activate",
    "can_tell",
    "current",
    "current_or_none",
    "enter",
    "telling_of",
]


_LOG: Final = logging.getLogger("tranship.task")


class CancelReason(enum.StrEnum):
    """Why a running handler is asked to stop."""

    CANCELLED = "cancelled"
    """Somebody cancelled the task, by its id or its cancel key."""
    DEADLINE = "deadline"
    TIMEOUT = "timeout"
    """The attempt ran longer than the task's ``run_timeout``."""
    LOST = "lost"
    """The lease is gone: somebody else may be running the task now."""
    SHUTDOWN = "shutdown"
    """The worker stops; the task runs again elsewhere."""


class Telling(Protocol):
    """Takes what one run tells; any thread."""

    @property
    def limit(self) -> int:
        """Bytes of one part."""

    def progress(self, progress: Progress) -> None:
        """Tell how far it is."""

    def emit(self, part: bytes) -> None:
        """Tell one part, encoded; see :meth:`TaskContext.emit` for what it raises."""

    async def room(self) -> None:
        """Wait while too much has not been sent yet."""

    def block(self, check: Callable[[], None]) -> None:
        """Do the same in a thread; on an event loop return at once. ``check``, which is called now and then, raises
        what is to end it.
        """


class Emitted:
    """What :meth:`TaskContext.emit` returns. To await it waits while too much has not been sent yet."""

    __slots__ = ("_telling",)

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def __await__(self) -> Generator[Any, Any, None]:
        return self._telling.room().__await__()


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """Keeps what a call gives as ``extra``, which the usual one drops before Python 3.13."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs


class TaskContext(DurableContext):
    """The task that is running. May be used from any thread.

    Args:
        envelope: the task.
        delivery_count: how many times it has been delivered, this one included.
        ahead: seconds by which the broker's clock, which deadlines go by, is ahead of ours.
        hot_cache: the worker's; None: one of its own.
        tell: returns what takes what it tells, when it tells something; None: nothing does.
        durably: returns what keeps its steps, when it has some; None: nothing does.

    Attributes:
        ended: whether it runs no more; :func:`current` refuses it then.
        last_progress: what the handler said last with :meth:`progress`; None: nothing.
        telling: what takes what it tells, once it has told something.
    """

    __slots__ = (
        "_ends",
        "_event",
        "_hot_cache",
        "_lock",
        "_reason",
        "_tell",
        "delivery_count",
        "ended",
        "envelope",
        "last_progress",
        "telling",
    )

    def __init__(
        self,
        envelope: Envelope,
        *,
        delivery_count: int = 1,
        ahead: float = 0.0,
        hot_cache: HotCache | None = None,
        tell: Callable[[Envelope], Telling | None] | None = None,
        durably: Callable[[TaskContext], Durable] | None = None,
    ) -> None:
        super().__init__(durably, ahead)
        self.envelope: Envelope = envelope
        self.delivery_count: int = delivery_count
        self.last_progress: Progress | None = None
        self.telling: Telling | None = None
        self._tell = tell
        self.ended: bool = False
        self._hot_cache = hot_cache
        self._ends = None if envelope.deadline is None else envelope.deadline - ahead
        if envelope.run_timeout is not None:
            ends = time.time() + envelope.run_timeout
            self._ends = ends if self._ends is None else min(ends, self._ends)
        self._reason: CancelReason | None = None
        # An event costs more than all the rest of a context: made when a thread waits for it.
        self._event: threading.Event | None = None
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """The task's id."""
        return self.envelope.id

    @property
    def task(self) -> str:
        """The task's name."""
        return self.envelope.task

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self.envelope.queue

    @property
    def attempt(self) -> int:
        """How many attempts came before this one."""
        return self.envelope.attempt

    @property
    def deadline(self) -> float | None:
        """When the task must have finished, in epoch seconds; None: it has no deadline."""
        return self.envelope.deadline

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers the task was submitted with; safe to send along with another task."""
        from tranship.protocol import user_headers

        return user_headers(self.envelope)

    @property
    def root_id(self) -> str:
        """The id of the task that everything began with; its own when no task submitted it."""
        return self.envelope.root_id or self.envelope.id

    @property
    def info(self) -> Mapping[str, Any]:
        """Who it is, as the log's records name it: ``task``, ``id``, ``attempt`` and ``queue``."""
        return {"task": self.task, "id": self.id, "attempt": self.attempt, "queue": self.queue}

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named ``tranship.task`` whose records have the fields of :attr:`info` beside those of ``extra``."""
        return _Logger(_LOG, self.info)

    @property
    def hot_cache(self) -> HotCache:
        """What this worker holds ready, such as models in memory: add to it what is loaded, remove what is not any
        more. Heartbeats tell it, with the skills that have everything they need.
        """
        if self._hot_cache is None:
            from tranship.task._hot_cache import HotCache

            self._hot_cache = HotCache()
        return self._hot_cache

    def progress(self, done: float, total: float | None = 1.0, message: str = "") -> None:
        """Say how far the task is, and perhaps a few words, as often as you like: a few times a second the latest is
        told. ``handle.info()`` has it where the result store keeps records, and ``tranship tasks`` shows what was said
        last when the worker's heartbeat was due.

        Args:
            done: how much is done.
            total: of how much; 1.0: ``done`` is a share. None: nobody knows.
            message: a few words.

        Raises:
            InvalidOptionError: ``done`` is no number from 0 to ``total``, ``total`` none above 0, or ``message`` no
                text.
        """
        from tranship.outcomes import Progress

        self.last_progress = said = Progress.checked(done, total, message, attempt=self.attempt)
        if (telling := self._told()) is not None:
            telling.progress(said)

    def emit(self, value: Any) -> Emitted | None:
        """Tell a part of the result, for :meth:`TaskHandle.stream` to bring, in order [parts_come_in_order].

        A few times a second what has been emitted is sent together. A thread waits in here while too much has not been
        sent; on an event loop ``await`` what this returns to wait for that.

        Args:
            value: anything that a handler may return.

        Raises:
            UnsupportedError: the result store keeps no records, so that nobody could get it.
            EncodeError: it cannot be written.
            MessageTooLarge: it is larger than a message may be; or far too much has not been sent yet.
            TaskCancelled, DeadlineExceeded, TaskTimedOut, LeaseLost: the handler is to stop; let it pass.
        """
        self.raise_if_cancelled()
        if self._tell is None:
            raise UnsupportedError(
                f"task {self.task!r} emits parts of its result, and nothing here can bring them to anybody: the result "
                "store keeps no records; give the worker and its clients one that does (result_url)"
            )
        telling = self._told()
        if telling is None:
            # Of a task whose result is not wanted, nobody wants parts.
            return None
        # Loaded by tasks that tell something: a client that is only made costs little.
        from tranship.parts import encode_part

        part = encode_part(value)
        if len(part) > telling.limit:
            raise MessageTooLarge(
                f"a part of {len(part):,} bytes is more than the {telling.limit:,} of max_message_size; emit a "
                "reference (a path, a URL), or smaller parts",
                size=len(part),
                limit=telling.limit,
                task_id=self.id,
            )
        telling.emit(part)
        telling.block(self.raise_if_cancelled)
        return Emitted(telling)

    def _told(self) -> Telling | None:
        if self.telling is None and self._tell is not None:
            self.telling = self._tell(self.envelope)
        return self.telling

    def remaining(self) -> float | None:
        """Return the seconds until the deadline or the end of ``run_timeout``, whichever is sooner.

        0.0 when the time is up; None when there is no limit.
        """
        return None if self._ends is None else max(0.0, self._ends - time.time())

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop; :attr:`cancel_reason` says why."""
        return self._reason is not None

    @property
    def cancel_reason(self) -> CancelReason | None:
        """Why the handler should stop; None: it should not."""
        return self._reason

    def raise_if_cancelled(self) -> None:
        """Do nothing, unless the handler should stop.

        Raises:
            TaskCancelled, DeadlineExceeded, TaskTimedOut, LeaseLost: by :attr:`cancel_reason`; let it pass.
        """
        if self._reason is not None:
            raise self._error(self._reason)

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Block this thread until the handler should stop, at most ``timeout`` seconds; return whether it should.

        A ``def`` handler sleeps with it and still stops at once; an ``async def`` one is simply cancelled.
        """
        with self._lock:
            if self._reason is not None:
                return True
            self._event = event = self._event or threading.Event()
        return event.wait(timeout)

    def cancel(self, reason: CancelReason | str = CancelReason.CANCELLED) -> None:
        """Ask the handler to stop; called by the worker. The first reason stays."""
        with self._lock:
            self._reason = self._reason or CancelReason(reason)
            if self._event is not None:
                self._event.set()

    def __repr__(self) -> str:
        return f"<TaskContext {self.task} {self.id} attempt={self.attempt} cancelled={self.cancelled}>"

    def _error(self, reason: CancelReason) -> TranshipError:
        if reason is CancelReason.DEADLINE:
            return DeadlineExceeded(f"the deadline of task {self.id} has passed", task_id=self.id)
        if reason is CancelReason.TIMEOUT:
            limit = self.envelope.run_timeout
            return TaskTimedOut(f"task {self.id} ran longer than its run_timeout of {limit} s", task_id=self.id)
        if reason is CancelReason.LOST:
            return LeaseLost(f"the lease of task {self.id} was lost; somebody else may run it now", task_id=self.id)
        why = "the worker stops" if reason is CancelReason.SHUTDOWN else "it was cancelled"
        return TaskCancelled(f"task {self.id} has to stop: {why}", task_id=self.id)


_CURRENT: ContextVar[TaskContext | None] = ContextVar("tranship_task", default=None)


def current() -> TaskContext:
    """Return the context of the task that is running here.

    Raises:
        ConfigurationError: no task is. A thread of your own needs ``contextvars.copy_context().run``,
            which ``asyncio.to_thread`` does by itself. Or the task that was has ended.
    """
    context = _CURRENT.get()
    if context is None:
        raise ConfigurationError(
            "no task is running here; call current() inside a task, and start threads with a copy of its context"
        )
    if context.ended:
        raise ConfigurationError(
            f"task {context.id} ({context.task}) has ended, and current() is called by something that it has left "
            "behind; take what you need from current() before the handler returns, or wait in it for what it starts"
        )
    return context


def current_or_none() -> TaskContext | None:
    """Return the context of the task that is running here, or None."""
    return _CURRENT.get()


def can_tell(context: TaskContext) -> bool:
    """Whether what the task emits can be brought to anybody."""
    return context._tell is not None  # noqa: SLF001 - for the worker, not for handlers


def telling_of(context: TaskContext) -> Telling | None:
    """Return what takes what the task tells; None: nobody wants it, or can be brought it."""
    return context._told()  # noqa: SLF001 - likewise


def activate(context: TaskContext) -> None:
    """Make ``context`` the current one for the rest of this asyncio task, and of threads begun from it."""
    _CURRENT.set(context)


@contextmanager
def enter(context: TaskContext) -> Iterator[TaskContext]:
    """Make ``context`` the current one, for the worker and for tests of handlers."""
    token = _CURRENT.set(context)
    try:
        yield context
    finally:
        _CURRENT.reset(token)
