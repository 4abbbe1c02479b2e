"""What a running handler can know and ask: its task, the time that is left, whether to stop."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from tranship.checks import invalid, is_share
from tranship.envelope import Envelope
from tranship.errors import (
    ConfigurationError,
    DeadlineExceeded,
    LeaseLost,
    TaskCancelled,
    TaskTimedOut,
    TranshipError,
)

if TYPE_CHECKING:
    from tranship.task._hot_cache import HotCache

__all__ = ["CancelReason", "TaskContext", "activate", "current", "current_or_none", "enter"]


_LOG: Final = logging.getLogger("tranship.task")
_NOTE: Final = 200
"""Characters of what a handler says of its progress."""


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


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """Keeps what a call gives as ``extra``, which the usual one drops before Python 3.13."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs


class TaskContext:
    """The task that is running. May be used from any thread.

    Args:
        envelope: the task.
        delivery_count: how many times it has been delivered, this one included.
        ahead: seconds by which the broker's clock, which deadlines go by, is ahead of ours.
        hot_cache: the worker's; None: one of its own.

    Attributes:
        ended: whether it runs no more; :func:`current` refuses it then.
        progress: what the handler said last with :meth:`set_progress`: how much is done, and a note; None: nothing.
    """

    __slots__ = ("_ends", "_event", "_hot_cache", "_lock", "_reason", "delivery_count", "ended", "envelope", "progress")

    def __init__(
        self,
        envelope: Envelope,
        *,
        delivery_count: int = 1,
        ahead: float = 0.0,
        hot_cache: HotCache | None = None,
    ) -> None:
        self.envelope = envelope
        self.delivery_count = delivery_count
        self.progress: tuple[float, str] | None = None
        self.ended = False
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

    def set_progress(self, done: float, note: str = "") -> None:
        """Say how much is done, from 0 to 1, and perhaps a few words, as often as you like: ``tranship tasks`` shows
        what was said last when the worker's heartbeat was due.

        Raises:
            InvalidOptionError: ``done`` is no number from 0 to 1, or ``note`` no text.
        """
        if not is_share(done):
            raise invalid("done", done, "a number from 0 to 1")
        if not isinstance(note, str):
            raise invalid("note", note, "a text")
        self.progress = float(done), note[:_NOTE]

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
