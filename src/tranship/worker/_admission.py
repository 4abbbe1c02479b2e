"""The beginning of a delivery: decoded, and what needs no handler decided. The rest is the ``Caller``'s.

Nothing here is retried: what failed comes back as a new delivery, if at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tranship.canvas import Embed
from tranship.clocks import Clock
from tranship.envelope import Ending, Envelope, ErrorInfo
from tranship.errors import MalformedMessage, UnknownTask
from tranship.protocol import Decoder, TakesLong, canvas
from tranship.task import Task
from tranship.worker._answered import Answered
from tranship.worker._built_in import BUILT_IN
from tranship.worker._cancels import Cancels
from tranship.worker._canvas import refusal
from tranship.worker._describe import describe_final
from tranship.worker._record import Run, Sequel

__all__ = ["DELIVERY_LIMIT", "Admission"]

DELIVERY_LIMIT: Final = "delivery-limit"
"""The reason of a dead letter that was delivered too often without an end: it kills its workers."""

EARLY: Final = 0.05
"""Seconds that a broker's schedule may be early without our sending the task back."""

WRONG: Final = 86_400.0
"""Seconds that no clock is wrong by: a schedule that is this early does not reach as far as the task's time."""

_SHOWN: Final = 20
"""Names of tasks in an error: a worker may have hundreds, and get a thousand messages of a task that it has not."""


class Admission:
    """Admits deliveries, on the I/O loop. Each step takes the record; once an outcome is decided the later steps have
    nothing to do.

    Args:
        tasks: the handlers by task name.
        cancels: what is known to be cancelled.
        answered: what has its result already.
        max_deliveries: a task that comes more often than this is dead-lettered.
        max_size: the largest body in bytes, compressed or not; a larger one is dead-lettered.
        counts: whether there is anything that counts the parts of a chord, or looks for their results.
        own: tasks that this worker has without having been given them, beside those of every worker.
        clock: the broker's; None: this host's own.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        cancels: Cancels,
        answered: Answered,
        *,
        max_deliveries: int,
        max_size: int,
        counts: bool = False,
        own: Iterable[Task[..., Any]] = (),
        clock: Clock | None = None,
    ) -> None:
        self._names = sorted(tasks)
        self._tasks = {**BUILT_IN, **{one.name: one for one in own}, **tasks}
        self._cancels = cancels
        self._answered = answered
        self._max_deliveries = max_deliveries
        self._counts = counts
        self._clock = clock or Clock()
        self._decoder = Decoder(max_size)

    def admit(self, run: Run) -> bool:
        """Decode, and decide what needs no handler: then there is an outcome. False: it needs :meth:`admit_slowly`."""
        if run.delivery.delivery_count > 1:
            return False
        try:
            self._decode(run, self._decoder.decode)
        except TakesLong:
            return False
        if run.outcome is None:
            self._admit(run)
        return True

    async def admit_slowly(self, run: Run) -> None:
        """The same for what is large, or was delivered before and may have its result already."""
        try:
            self._decode(run, self._decoder.decode)
        except TakesLong:
            await asyncio.to_thread(self._decode, run, self._decoder.decode_large, large=True)
        if run.outcome is None and run.delivery.delivery_count > 1:
            await self._recall(run)
        if run.outcome is None:
            self._admit(run)

    # Decode.

    def _decode(self, run: Run, decode: Callable[..., Envelope], *, large: bool = False) -> None:
        delivery = run.delivery
        try:
            run.envelope = decode(delivery.message, queue=delivery.queue, priority=delivery.priority)
        except MalformedMessage as error:
            run.unreadable = error.task_id
            run.bury(error.reason, str(error), describe_final(error))
            return
        if run.envelope.headers and (parts := canvas(run.envelope)):
            run.sequel = Sequel(Embed.read(parts), large=large)
        run.task = self._tasks.get(run.envelope.task)
        if run.task is None:
            self._unknown(run, run.envelope)
        elif run.task.fill is not None:
            # What the message leaves open, as one submitted by name or most of Celery's, is the handler's to say.
            run.envelope = run.task.fill(run.envelope)

    def _unknown(self, run: Run, envelope: Envelope) -> None:
        names = self._names
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        known = f"{', '.join(names[:_SHOWN])}{more}" or "none"
        message = f"no task named {envelope.task!r} is registered in this worker (it has: {known})"
        error = ErrorInfo(
            type="tranship.errors.UnknownTask", message=message, code=UnknownTask.code, arguments=(envelope.task,)
        )
        run.bury(UnknownTask.reason, message, error)

    async def _recall(self, run: Run) -> None:
        """It was delivered before."""
        assert run.envelope is not None
        run.answered = await self._answered.find(run.envelope)
        if run.answered is not None:
            run.end(Ending.ANSWERED)

    # Admit.

    def _admit(self, run: Run) -> None:
        envelope = run.envelope
        assert envelope is not None
        run.ahead = self._clock.ahead
        if self._cancels.covers(envelope):
            run.end(Ending.CANCELLED)
        elif run.delivery.delivery_count > self._max_deliveries:
            self._poisonous(run, envelope)
        elif envelope.deadline is not None and envelope.deadline <= time.time() + run.ahead:
            run.end(Ending.EXPIRED)
        elif envelope.not_before is not None and (early := _early(run, envelope.not_before)) > EARLY:
            # From a peer that leaves waiting to the worker, or a broker that is early: on the schedule, as the same
            # attempt.
            run.delay = early
            run.end(Ending.RETRY)
        elif run.sequel is not None and (error := refusal(run.sequel.embed, envelope, counts=self._counts)):
            run.end(Ending.FAILED, error)

    def _poisonous(self, run: Run, envelope: Envelope) -> None:
        message = (
            f"task {envelope.id} was delivered {run.delivery.delivery_count - 1} times without an end "
            f"(the limit is {self._max_deliveries}): its worker died or lost it each time"
        )
        error = ErrorInfo(type="tranship.errors.TaskDeadLettered", message=message, code="DELIVERY_LIMIT")
        run.bury(DELIVERY_LIMIT, message, error)


def _early(run: Run, not_before: float) -> float:
    """Seconds until the task is due, by the broker's clock; none where its schedule has said that it is."""
    early = not_before - time.time() - run.ahead
    return 0.0 if run.delivery.scheduled and early < WRONG else early
