"""What lets a handler go on where it was when its task runs again: steps that are done once, and their values."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

from tranship.checks import Duration, duration
from tranship.errors import UnsupportedError

if TYPE_CHECKING:
    from datetime import datetime

    from tranship.task._context import TaskContext

__all__ = ["Durable", "DurableContext"]

P = ParamSpec("P")
R = TypeVar("R")


class Durable(Protocol):
    """Keeps what one run does; any thread. On an event loop what it returns is awaited, elsewhere it blocks.

    Attributes:
        awaited: the key of the event that the run was suspended for, last; None: for none.
    """

    awaited: str | None

    def step(self, name: str, call: Callable[[], Any]) -> Any:
        """Return the value of a step, which is called unless it is kept."""

    def once(self, key: str, call: Callable[[], Any]) -> Any:
        """Return the value of what is done once in all."""

    def sleep(self, name: str | None, due: float) -> Any:
        """Suspend the run until ``due``, in epoch seconds by the broker's clock, unless that is over."""

    def wait_event(self, name: str, timeout: float | None) -> Any:
        """Suspend the run until the task has been sent the event; its value."""

    async def renew(self, delay: float) -> None:
        """Keep it for as long as ever from ``delay`` seconds from now; on the worker's I/O loop."""


class DurableContext:
    """The half of :class:`TaskContext` that outlives a run.

    Args:
        durably: returns what keeps what a run does, with the first step; None: nothing does.

        ahead: seconds by which the broker's clock is ahead of ours.

    Attributes:
        durable: what keeps it, once there was a step.
        ahead: as given.
    """

    __slots__ = ("_durably", "ahead", "durable")

    def __init__(self, durably: Callable[[TaskContext], Durable] | None, ahead: float) -> None:
        self.ahead: float = ahead
        self.durable: Durable | None = None
        self._durably = durably

    @overload
    def step(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[R]: ...
    @overload
    def step(self, name: str, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any: ...

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do something once in the life of the task: call ``function`` and keep its value, or, when the task runs again
        because it failed or its worker died, return the value that was kept [steps_are_done_once].

        In an ``async def`` handler ``await`` what this returns; in a ``def`` handler it blocks and returns the value.
        Either way the value is as it is read back: a tuple comes as a list, a model as a dict.

        Args:
            name: what tells it from the other steps of the task.
            function: what is done, a coroutine function or a plain one. What it raises is not kept.
            args, kwargs: what it is called with.

        Raises:
            InvalidOptionError: no such name, or a step before has it.
            UnsupportedError: nothing here keeps steps, or ``function`` is a coroutine function in a ``def`` handler.
            EncodeError, MessageTooLarge: the value cannot be kept, though it was done.
            BrokerUnreachable: the store is away for longer than a minute.
            TaskCancelled, DeadlineExceeded, TaskTimedOut, LeaseLost: the handler is to stop; let it pass.
        """
        return self._kept().step(name, partial(function, *args, **kwargs))

    @overload
    def once(
        self, key: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[R]: ...
    @overload
    def once(self, key: str, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any: ...

    def once(self, key: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do something once in all, whichever task comes to it first: as :meth:`step`, by a key of yours instead of the
        task and a name [once_is_done_once].

        While one task does it, the others that have come to it wait. The value is kept for 30 days.

        Args:
            key: what tells it from everything else, such as ``"invoice-4711"``.
            function, args, kwargs: as for :meth:`step`.

        Raises:
            As :meth:`step`.
        """
        return self._kept().once(key, partial(function, *args, **kwargs))

    def sleep(self, seconds: Duration, name: str | None = None) -> Any:
        """Give the worker's slot back, and go on after so long, on whichever worker there is then
        [sleeps_give_the_slot_back].

        The handler ends here: what it raises, a :class:`BaseException`, is to pass. When the sleep is over it is called
        again, as the same attempt; steps that are done return their values, and this returns at once. In an
        ``async def`` handler ``await`` what it returns.

        Args:
            seconds: how long, or a timedelta.
            name: what tells it from the task's other sleeps; None: it is counted.

        Raises:
            InvalidOptionError: no length of time; or another sleep of the task has the name.
            UnsupportedError, BrokerUnreachable: as :meth:`step`.
        """
        return self._kept().sleep(name, time.time() + self.ahead + duration("seconds", seconds))

    def sleep_until(self, when: float | datetime, name: str | None = None) -> Any:
        """Do the same until a time.

        Args:
            when: epoch seconds, or a datetime with a time zone. What has passed is not waited for.
            name: as for :meth:`sleep`.

        Raises:
            InvalidOptionError, UnsupportedError, BrokerUnreachable: as :meth:`sleep`.
        """
        # Loaded by submits already, or by the first that sleeps.
        from tranship.task._options import moment

        return self._kept().sleep(name, moment("when", when))

    def wait_event(self, name: str, timeout: Duration | None = None) -> Any:
        """Give the worker's slot back, and go on once somebody has sent the task the event: as :meth:`sleep`; return
        what was sent with it [events_resume_once].

        An event that was sent before is there at once, and one that comes is told to the worker that ran the task last.
        Besides that the task looks for it: first after half a second, then ever more seldom, at least every 15 seconds.
        In an ``async def`` handler ``await`` what this returns.

        Args:
            name: as for ``handle.send_event()``. The same event may be waited for again, for example after a timeout.
            timeout: seconds, or a timedelta; None: for as long as it takes.

        Raises:
            TimeoutError: it has not been sent in time; when the task runs again, too, even if it has by then.
            InvalidOptionError: no such name, or no length of time.
            UnsupportedError, BrokerUnreachable: as :meth:`step`.
        """
        return self._kept().wait_event(name, None if timeout is None else duration("timeout", timeout))

    def _kept(self) -> Durable:
        if self.durable is None:
            self.durable = self._make_durable()
        return self.durable

    def _make_durable(self) -> Durable:
        if self._durably is None:
            raise UnsupportedError(
                "the steps of a task are kept as records, and the result store of this worker keeps none; give it one "
                "that does, such as redis://... or sqlite:///... (result_url, or TRANSHIP_RESULT_URL)"
            )
        return self._durably(cast("TaskContext", self))
