"""Handing tasks over: concurrent submits coalesce into one broker round trip, and every caller gets its
own outcome.

Unknown outcomes are resolved here, once for all backends: a message whose answer was lost is submitted
again under the same id where the backend recognises it (RETRY_SAFE), until the submit timeout; otherwise,
and when time runs out, the caller is told :class:`~tranship.errors.SubmitUnknown`.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from tranship.errors import ClosedError, MessageTooLarge, TranshipError
from tranship.guards import check_may_block
from tranship.ports import Submitter
from tranship.protocol import Message
from tranship.submission._handover import HandOver
from tranship.submission._jobs import Answer, Flight, Job, Span, ThreadWaiter, Waiter
from tranship.submission._sorting import Sorting

if TYPE_CHECKING:
    from tranship.limits import HandsOver

__all__ = ["BATCH", "IN_FLIGHT", "Submission"]

BATCH: Final = 1000
"""Messages per round trip: larger batches block both sides for longer and gain nothing."""
IN_FLIGHT: Final = 4
"""Round trips under way at once."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


class Submission:
    """The one way into a submitter, shared by all callers of a link.

    Args:
        submitter: the driver's.
        loop: the loop it lives on.
        timeout: seconds until a submit that the broker did not take is given up.
        retry_safe: whether the backend recognises a message that it has already (RETRY_SAFE).
        announce: called with messages right before they are handed to the submitter.
        sent: called with those that the broker has taken; None: nobody asks.
    """

    def __init__(
        self,
        submitter: Submitter,
        *,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        retry_safe: bool,
        announce: Callable[[Sequence[Message]], None] | None = None,
        sent: Callable[[Sequence[Message]], None] | None = None,
    ) -> None:
        self._hand_over: HandsOver = HandOver(submitter, loop)
        self._loop = loop
        self._timeout = timeout
        self._sorting = Sorting(timeout=timeout, retry_safe=retry_safe)
        self._announce = announce
        self._sent = sent
        self._limit = submitter.max_message_size
        # Appended by any thread; everything else below is touched on the loop only.
        self._jobs: collections.deque[Job] = collections.deque()
        self._spans: collections.deque[Span] = collections.deque()
        self._woken = False
        self._posting: set[int] = set()
        """Threads in :meth:`post`: one that comes in again from a signal's handler or ``__del__`` must wake the loop
        itself, since the call that it interrupted may be just about to."""
        self._flights: set[Flight] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._progress = 0.0
        """When the broker last answered anything, on the loop's clock."""
        self._empty = asyncio.Event()
        self._closed = False

    def check(self, message: Message) -> None:
        """Refuse a message that is too large, before anything is written; any thread.

        Raises:
            MessageTooLarge: body and headers exceed the backend's limit.
        """
        if len(message.headers) + len(message.body) > self._limit:
            raise MessageTooLarge(
                f"task {message.envelope.task!r} is {message.size:,} bytes with its headers, the limit is "
                f"{self._limit:,}; pass a reference (a path, a URL) instead of the data, or raise max_message_size",
                size=message.size,
                limit=self._limit,
                task_id=message.envelope.id,
            )

    def post(self, messages: Sequence[Message], waiter: Waiter) -> None:
        """Queue ``messages``; ``waiter`` gets their answers in order. Any thread; reentrant; does not wait."""
        if self._closed:
            waiter.set_result([_closed_error() for _ in messages])
            return
        job = Job(messages, waiter)
        self._jobs.append(job)
        if self._taken_back(job):
            return
        thread = threading.get_ident()
        interrupted = thread in self._posting
        self._posting.add(thread)
        try:
            if interrupted or not self._woken:
                self._wake()
        finally:
            if not interrupted:
                self._posting.discard(thread)

    def _wake(self) -> None:
        try:
            self._woken = True
            self._loop.call_soon_threadsafe(self._collect)
        except RuntimeError:
            pass  # a loop that is closed has seen aclose() first, and that has taken the job along
        except BaseException:
            # A signal's handler raised half way: nobody else may rely on this call.
            self._woken = False
            raise

    def _taken_back(self, job: Job) -> bool:
        """Closed between the look and the append: nobody collects any more, unless aclose() just did."""
        if not self._closed:
            return False
        try:
            self._jobs.remove(job)
        except ValueError:
            return False
        job.answer(0, [_closed_error() for _ in job.messages])
        return True

    async def submit(self, messages: Sequence[Message]) -> list[Answer]:
        """Submit ``messages`` and return their answers in order; on the link's loop.

        Cancelling the caller changes nothing for the messages: they are submitted all the same.
        """
        if self._closed:
            raise _closed_error()
        waiter: asyncio.Future[list[Answer]] = self._loop.create_future()
        self.put(messages, waiter)
        return await waiter

    def put(self, messages: Sequence[Message], waiter: Waiter) -> None:
        """As :meth:`post`, on the link's loop: cheaper there."""
        if self._closed:
            waiter.set_result([_closed_error() for _ in messages])
            return
        self._jobs.append(Job(messages, waiter))
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._collect)

    def submit_blocking(self, messages: Sequence[Message]) -> list[Answer]:
        """The same for a caller in a thread without a loop, which is blocked meanwhile.

        Raises:
            BusyError: the thread is one that others wait for.
        """
        check_may_block()
        waiter = ThreadWaiter()
        self.post(messages, waiter)
        return waiter.wait()

    async def submit_from(self, messages: Sequence[Message], loop: asyncio.AbstractEventLoop) -> list[Answer]:
        """The same for a caller on another loop than the link's."""
        waiter: concurrent.futures.Future[list[Answer]] = concurrent.futures.Future()
        self.post(messages, waiter)
        return await asyncio.wrap_future(waiter, loop=loop)

    def divert(self, through: Callable[[HandsOver], HandsOver]) -> None:
        """Have all that is submitted from now on pass through what this makes of what hands it over; any thread."""
        self._hand_over = through(self._hand_over)

    async def aclose(self) -> None:
        """Refuse new messages and wait, within the submit timeout, for those under way."""
        self._closed = True
        self._collect()
        while self._flights:
            self._empty.clear()
            await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()

    # On the loop from here.

    def _collect(self) -> None:
        # Cleared before draining: a job appended behind the drain wakes us again.
        self._woken = False
        while self._jobs:
            job = self._jobs.popleft()
            self._spans.append((job, 0, job.left))
        self._launch()

    def _launch(self) -> None:
        while self._spans and len(self._flights) < IN_FLIGHT:
            batch = self._batch()
            # From the last sign of life: a long batch at a slow broker is not late, one at a dead broker is.
            begun = max(self._progress, batch[0][0].posted)  # the first is the oldest
            flight = Flight(batch, begun + self._timeout, FIRST_PAUSE)
            if flight.deadline <= self._loop.time():
                self._sorting.refuse(flight)
            else:
                self._flights.add(flight)
                self._attempt(flight)

    def _batch(self) -> list[Span]:
        """Take up to BATCH messages off the queue, cutting a long job."""
        batch: list[Span] = []
        room = BATCH
        while self._spans and room:
            job, start, stop = self._spans.popleft()
            cut = min(stop, start + room)
            if cut < stop:
                self._spans.appendleft((job, cut, stop))
            batch.append((job, start, cut))
            room -= cut - start
        return batch

    # Callbacks rather than a coroutine: a round trip costs the driver's task and nothing else.

    def _attempt(self, flight: Flight) -> None:
        """Begin one round trip; it is never cancelled in flight, only no longer waited for."""
        messages = [message for job, start, stop in flight.batch for message in job.messages[start:stop]]
        flight.under_way = True
        self._watch(flight.deadline)
        if self._announce is not None:
            self._announce(messages)
        self._hand_over.submit(messages, partial(self._answered, flight, messages))

    def _answered(self, flight: Flight, messages: Sequence[Message], answers: Sequence[Answer]) -> None:
        if flight not in self._flights:
            return
        if self._sent is not None:
            self._sent([one for one, answer in zip(messages, answers, strict=True) if _is_new(answer)])
        flight.under_way = False
        flight.batch = self._sorting.sort_out(flight, answers)
        if not flight.batch or sum(stop - start for _, start, stop in flight.batch) < len(messages):
            self._progress = self._loop.time()
        if not flight.batch:
            self._landed(flight)
        elif self._loop.time() + flight.pause > flight.deadline:
            self._give_up(flight)
        else:
            self._loop.call_later(flight.pause, self._attempt, flight)
            flight.pause = min(flight.pause * 2, LONGEST_PAUSE)

    def _watch(self, deadline: float) -> None:
        """Look at what is under way at ``deadline``, or before; one timer for all: nearly all of them are in time."""
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        under_way = [flight for flight in self._flights if flight.under_way]
        for flight in under_way:
            if flight.deadline <= now:
                self._overdue(flight)
        left = [flight.deadline for flight in self._flights if flight.under_way]
        if left:
            self._watch(min(left))

    def _overdue(self, flight: Flight) -> None:
        """The broker has not answered in time: what it makes of the messages is not known."""
        late = (message.envelope.id for job, start, stop in flight.batch for message in job.messages[start:stop])
        flight.doubtful.update(dict.fromkeys(late))
        self._give_up(flight)

    def _give_up(self, flight: Flight) -> None:
        self._sorting.refuse(flight)
        self._landed(flight)

    def _landed(self, flight: Flight) -> None:
        self._flights.discard(flight)
        if not self._flights:
            self._empty.set()
        if self._spans:
            self._launch()


def _is_new(answer: Answer) -> bool:
    """Whether the broker has taken the message, and did not have one like it."""
    return not isinstance(answer, TranshipError) and answer.duplicate_of is None


def _closed_error() -> ClosedError:
    return ClosedError("this client has been closed; create a new one")
