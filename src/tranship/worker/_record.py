"""The record that a delivery's pipeline works on."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.envelope import Ending, Envelope, ErrorInfo
from tranship.ports import Consumer, Delivery, Settlement, StoredResult
from tranship.task import Task, TaskContext

if TYPE_CHECKING:
    from tranship.canvas import Embed, Plan
    from tranship.protocol import Message
    from tranship.worker._isolation import IsolatedCall
    from tranship.worker._threads import ThreadCall

__all__ = ["Run", "Sequel", "Stop"]

_REASON: Final = 200
_DETAIL: Final = 1000
"""Characters."""


class Stop(enum.Enum):
    """Why a running handler is told to stop."""

    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    TIMEOUT = "timeout"
    LOST = "lost"
    """The lease is gone: somebody else may run the task."""
    SHUTDOWN = "shutdown"


class Sequel:
    """What follows a task, as its message says; few have any.

    Args:
        embed: what the message says.
        large: whether there is so much of it that a loop would be busy with it.

    Attributes:
        plan: what that means now that the task has ended, to be done before it is settled; None: it has not.
        messages: the tasks of the plan, encoded.
        raised: what the handler raised; None: nothing.
    """

    __slots__ = ("embed", "large", "messages", "plan", "raised")

    def __init__(self, embed: Embed, *, large: bool = False) -> None:
        self.embed, self.large = embed, large
        self.plan: Plan | None = None
        self.messages: Sequence[Message] = ()
        self.raised: BaseException | None = None


class Run:
    """One delivery on its way through the worker; each step fills in its part.

    It belongs to the I/O loop, but to the handlers' loop from when it is handed over until it comes back. Only
    :meth:`tell` reaches it there.
    """

    __slots__ = (
        "ahead",
        "answered",
        "began",
        "broken",
        "consumer",
        "context",
        "delay",
        "delivery",
        "detail",
        "envelope",
        "error",
        "handed",
        "isolated",
        "job",
        "limit",
        "limit_means",
        "outcome",
        "reason",
        "sequel",
        "settlement",
        "snoozed",
        "started",
        "status",
        "stopped",
        "task",
        "thread_busy",
        "unreadable",
        "value",
    )

    def __init__(self, delivery: Delivery, consumer: Consumer) -> None:
        self.delivery = delivery
        self.consumer = consumer
        """Where it came from, and where it is renewed, settled and given back."""
        self.envelope: Envelope | None = None
        self.sequel: Sequel | None = None
        """What is to follow the task; None: nothing."""
        self.unreadable: str | None = None
        """The id of a message that could not be decoded, where at least that could be read."""
        self.task: Task[..., Any] | None = None
        self.context: TaskContext | None = None
        self.handed = False
        """Whether it has been handed to the handlers' loop."""
        self.job: asyncio.Task[None] | None = None
        """What works on it, on the handlers' loop."""
        self.broken = False
        """Whether the worker itself failed: the delivery is left to its lease."""
        self.limit: float | None = None
        """Seconds this attempt may run; None: as long as it takes."""
        self.limit_means = Stop.TIMEOUT
        """What it means when they are up."""
        self.started = False
        """Whether the handler has been called."""
        self.began = 0.0
        """When, by the monotonic clock."""
        self.stopped: Stop | None = None
        self.thread_busy: ThreadCall | None = None
        """A thread that still runs the handler although its outcome is decided."""
        self.isolated: IsolatedCall | None = None
        """What runs in a process of its own, and can be ended."""
        self.outcome: Ending | None = None
        self.value: Any = None
        self.status: str | None = None
        """What the handler calls it, beside the value."""
        self.snoozed = False
        """For RETRY: it comes again as the same attempt."""
        self.answered: StoredResult | None = None
        """For ANSWERED: the result that is there already."""
        self.error: ErrorInfo | None = None
        self.ahead = 0.0
        """Seconds by which the broker's clock is ahead of ours."""
        self.settlement: Settlement | None = None
        """Once the outcome is decided; None: nothing is to be settled."""
        self.delay = 0.0
        """For RETRY: seconds until the next attempt."""
        self.reason = ""
        """For DEAD: the short, stable word."""
        self.detail = ""

    @property
    def id(self) -> str | None:
        """The task's id, once decoded."""
        return None if self.envelope is None else self.envelope.id

    def end(self, outcome: Ending, error: ErrorInfo | None = None) -> None:
        """Decide how the delivery ends."""
        self.outcome = outcome
        self.error = error

    def bury(self, reason: str, detail: str, error: ErrorInfo | None = None) -> None:
        """Decide for the dead letters. Reason and detail travel as headers: the result has the whole error."""
        self.reason, self.detail = _brief(" ".join(reason.split()), _REASON), _brief(detail, _DETAIL)
        self.end(Ending.DEAD, error)

    def tell(self, why: Stop) -> bool:
        """Say that the handler is to stop, for it to see in its context; any thread. False: it is too late.

        The first reason stays. A handler that has not heeded it is not waited for any longer on SHUTDOWN.
        """
        if self.outcome is not None or (self.stopped is not None and why is not Stop.SHUTDOWN):
            return False
        # Before the handler can see it: what it does then is understood by it.
        self.stopped = self.stopped or why
        if self.context is not None:
            self.context.cancel(why.value)
        if self.isolated is not None:
            self.isolated.end()
        return True

    def interrupt(self) -> None:
        """Stop what was told to, on the handlers' loop: an ``async def`` is cancelled, a thread sees its context."""
        # What has not begun looks by itself; cancelled before its first step it would never end.
        if self.started and self.outcome is None and self.stopped is not None:
            if self.context is not None:
                self.context.cancel(self.stopped.value)
            if self.job is not None:
                self.job.cancel()

    def seconds_left(self) -> float | None:
        """Seconds until the deadline; None: there is none."""
        assert self.envelope is not None
        return None if self.envelope.deadline is None else self.envelope.deadline - self.ahead - time.time()


def _brief(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
