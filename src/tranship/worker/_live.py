"""What can be changed of a worker while it works: queues, how many tasks run at once, how often, how long.

Every change is for as long as the worker works; the log says it, and so does :attr:`LiveControl.changes`.
"""

from __future__ import annotations

import asyncio
import collections
import difflib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship.checks import name_text, one_of, positive_duration, whole
from tranship.errors import InvalidOptionError, UnknownTask
from tranship.ports import Backend, Capability
from tranship.task import Task
from tranship.worker._caller import Caller
from tranship.worker._consumed import ConsumedQueues
from tranship.worker._flow import Flow
from tranship.worker._rates import RateLimits
from tranship.worker._record import Stop
from tranship.worker._types import TypeLimits

__all__ = ["Change", "LiveControl"]

log = logging.getLogger("tranship.worker")

REMEMBERED: Final = 100
"""Changes."""
MOST_AT_ONCE: Final = 100_000
"""Tasks at once: whoever asks for more has slipped on the keyboard."""
MOST_QUEUES: Final = 1_000
RAREST: Final = 1 / 86_400
"""Starts per second: one a day."""
OFTENEST: Final = 1e6
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was changed."""

    at: float
    """When, in epoch seconds."""
    what: str
    """In one line."""


class LiveControl:
    """Of one worker at work, on its I/O loop.

    Args:
        backend: opened.
        flow: what becomes of deliveries.
        queues: what is consumed.
        tasks: the worker's, by name.
        caller: calls handlers.
        stop: ends the worker, for a reason.
        restart: gives what handlers run in a new beginning.

    Attributes:
        changes: the last of them.
    """

    def __init__(
        self,
        backend: Backend,
        flow: Flow,
        queues: ConsumedQueues,
        tasks: Mapping[str, Task[..., Any]],
        *,
        caller: Caller,
        stop: Callable[[str], None],
        restart: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._flow = flow
        self._queues = queues
        self._tasks = tasks
        self._caller = caller
        self._stop = stop
        self._restart = restart
        self._draining: asyncio.Task[None] | None = None
        """Waits until nothing is left to do, to stop then; None: it stays."""
        self.changes: collections.deque[Change] = collections.deque(maxlen=REMEMBERED)

    # Queues.

    async def consume(self, queue: str) -> None:
        """Consume ``queue``, too; one that is paused is taken from again.

        Raises:
            InvalidOptionError: it is no name, or the worker consumes as many as it can.
            BrokerError: the broker does not have it.
        """
        name_text("queue", queue)
        if queue in self._queues.known:
            if queue in self._queues.paused:
                self._resume(queue)
            return
        if len(self._queues.known) >= MOST_QUEUES:
            raise InvalidOptionError(f"the worker consumes {len(self._queues.known)} queues, which is the limit")
        await self._backend.ensure([queue])
        if queue in self._queues.known:
            return
        self._queues.add(queue)
        if self._flow.types is not None:
            self._flow.types.add_queue(queue)
        self._flow.intake.renew()
        self._flow.intake.ask_anew()
        self._note(f"queue {queue!r} is consumed, too")

    def pause(self, queue: str) -> None:
        """Take nothing from ``queue`` any more; what was taken goes on. One that is not consumed is passed over."""
        if queue in self._queues.known and queue not in self._queues.paused:
            self._queues.pause(queue)
            self._flow.intake.ask_anew()
            self._note(f"queue {queue!r} is not consumed any more")

    def resume(self, queue: str) -> None:
        """Take again from a queue that is paused.

        Raises:
            InvalidOptionError: the worker does not consume it.
        """
        self.check_consumed(queue)
        if queue in self._queues.paused:
            self._resume(queue)

    def _resume(self, queue: str) -> None:
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
            self._note("the worker stays")
        self._queues.resume(queue)
        self._flow.intake.reopened()
        self._note(f"queue {queue!r} is consumed again")

    def check_consumed(self, queue: str) -> None:
        """Do nothing, if a queue is consumed, or would be if it were not paused.

        Raises:
            InvalidOptionError: it is not.
        """
        if queue not in self._queues.known:
            raise InvalidOptionError(
                f"this worker does not consume queue {queue!r:.300}; it consumes {_names(self._queues.known)}"
            )

    @property
    def known(self) -> Sequence[str]:
        """What is consumed, or would be if it were not paused."""
        return self._queues.known

    @property
    def paused(self) -> Sequence[str]:
        """The queues that are paused."""
        return sorted(self._queues.paused)

    # Types.

    def pause_type(self, kind: str) -> None:
        """Start no task of a type any more; what runs goes on.

        Raises:
            InvalidOptionError: no task of the worker is of that type.
        """
        self._check_type(kind)
        types = self._flow.types
        if types is None:
            delays = self._backend.capabilities.has(Capability.DELAY)
            types = self._flow.types = TypeLimits({}, self._tasks, self._queues.known, delays=delays)
        if kind not in types.paused:
            types.pause(kind)
            self._flow.intake.ask_anew()
            self._note(f"tasks of type {kind!r} are not started any more")

    def resume_type(self, kind: str) -> None:
        """Start tasks of a type again.

        Raises:
            InvalidOptionError: no task of the worker is of that type.
        """
        self._check_type(kind)
        if self._flow.types is not None and kind in self._flow.types.paused:
            waiting = self._flow.types.resume(kind)
            self._note(f"tasks of type {kind!r} are started again")
            for run in waiting:
                self._flow.go_on(run)
            self._flow.intake.reopened()

    @property
    def paused_types(self) -> Sequence[str]:
        """The types that are paused."""
        return [] if self._flow.types is None else self._flow.types.paused

    def _check_type(self, kind: str) -> None:
        kinds = sorted({one.task_type for one in self._tasks.values() if one.task_type is not None})
        if kind not in kinds:
            raise InvalidOptionError(f"no task of this worker is of type {kind!r:.300}; its types are {_names(kinds)}")

    # How many at once.

    @property
    def concurrency(self) -> int:
        """How many tasks run at once, at most."""
        return self._flow.limit

    def set_concurrency(self, limit: int) -> None:
        """Have so many tasks run at once, at most; what runs goes on.

        Raises:
            InvalidOptionError: no whole number from 1 to 100,000.
        """
        if whole("concurrency", limit) > MOST_AT_ONCE:
            raise InvalidOptionError(f"concurrency is {limit}; expected at most {MOST_AT_ONCE}")
        before, self._flow.limit = self._flow.limit, limit
        self._flow.intake.room()
        self._note(f"{limit} tasks run at once, instead of {before}")

    # How often, and how long.

    def set_rate_limit(self, task: str, per_second: float | None) -> None:
        """Have no more of ``task`` start per second in this worker; None: as many as there are.

        Raises:
            UnknownTask: the worker has no such task.
            InvalidOptionError: fewer than one a day, or more than a million per second.
        """
        self._known(task)
        if per_second is not None and not RAREST <= per_second <= OFTENEST:
            raise InvalidOptionError(f"the rate is {per_second:g} per second; expected one a day to a million a second")
        if self._flow.rates is None:
            delays = self._backend.capabilities.has(Capability.DELAY)
            go_on, opened = self._flow.go_on, self._flow.intake.reopened
            self._flow.rates = RateLimits(self._tasks, go_on=go_on, opened=opened, delays=delays)
        self._flow.rates.set(task, per_second)
        self._note(f"task {task!r} starts {'as it comes' if per_second is None else f'{per_second:g} times a second'}")

    def rate_limit(self, task: str) -> float | None:
        """How many of ``task`` start per second, at most; None: as many as there are."""
        return None if self._flow.rates is None else self._flow.rates.of(task)

    def set_run_timeout(self, task: str, seconds: float | None) -> None:
        """Have each attempt of ``task`` that begins from now on run so long, at most, whatever it was declared or
        submitted with; None: as long as that says.

        Raises:
            UnknownTask: the worker has no such task.
            InvalidOptionError: no duration above 0, or longer than the broker leaves a delivery here.
        """
        self._known(task)
        limits = dict(self._caller.limits or {})
        limits.pop(task, None)
        if seconds is not None:
            limits[task] = positive_duration("run_timeout", seconds)
            hard_limit = self._flow.intake.consumer.hard_limit
            if hard_limit is not None and seconds > hard_limit:
                raise InvalidOptionError(
                    f"run_timeout is {seconds:g} s; {self._backend.name} takes a delivery back after {hard_limit:g} s"
                )
        # Replaced as a whole: handlers' loops read it.
        self._caller.limits = limits or None
        self._note(f"task {task!r} runs {'as long as it says' if seconds is None else f'{seconds:g} s at most'}")

    # What it logs.

    def set_log_level(self, level: str, logger: str = "tranship") -> None:
        """Log what is as grave as ``level``, or graver, of ``logger`` and those below it; in this process.

        Raises:
            InvalidOptionError: there is no such level.
        """
        name_text("logger", logger)
        name = level.upper() if isinstance(level, str) else level
        number = logging.getLevelNamesMapping()[one_of("level", name, LEVELS)]
        logging.getLogger(logger).setLevel(number)
        # A line that says it must not be missed where less is logged from now on.
        self._note(f"{logger} logs {name} and graver", level=max(number, logging.INFO))

    # The whole of it.

    def drain(self) -> None:
        """Take nothing any more, let what was taken end, however long that takes, and then stop. A queue that is
        resumed meanwhile has the worker stay.
        """
        if self._draining is None:
            self._note("the worker takes nothing more, and stops when it has nothing left to do")
            for queue in self._queues.known:
                self.pause(queue)
            for run in () if self._flow.types is None else self._flow.types.kept:
                # It waits for a type that has no room, which may be paused.
                self._flow.stop(run, Stop.SHUTDOWN)
            self._draining = asyncio.get_running_loop().create_task(self._stop_empty())

    @property
    def draining(self) -> bool:
        """Whether it will stop when it has nothing left to do."""
        return self._draining is not None

    async def _stop_empty(self) -> None:
        await self._flow.until_empty()
        self.stop("it was drained")

    def close(self) -> None:
        """Nothing is changed any more."""
        if self._draining is not None:
            self._draining.cancel()

    def stop(self, reason: str) -> None:
        """End the worker in good order; whoever watches over it does not replace it."""
        self._note(f"the worker stops: {reason}")
        self._stop(reason)

    def restart(self) -> None:
        """Give threads and processes of handlers, or the whole process, a new beginning; what runs finishes first."""
        self._note("what handlers run in begins anew")
        self._restart()

    def _known(self, task: str) -> None:
        if task not in self._tasks:
            close = difflib.get_close_matches(task, self._tasks, n=1) if isinstance(task, str) else []
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise UnknownTask(f"this worker has no task {task!r}{guess}")

    def _note(self, what: str, level: int = logging.INFO) -> None:
        log.log(level, "changed from outside: %s", what)
        self.changes.append(Change(time.time(), what))

    @property
    def queues(self) -> Collection[str]:
        """What is consumed right now."""
        return self._queues.names


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:20])) or "none"
    return f"{shown}, and {len(names) - 20} more" if len(names) > 20 else shown
