"""Taking deliveries in: as many as there are free slots, and never alive without consuming."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from tranship.errors import BrokerError, BrokerUnreachable, ClosedError, TranshipError
from tranship.pauses import Pauses
from tranship.ports import Consumer, Delivery, Received
from tranship.timers import LazyTimer, next_round
from tranship.worker._starvation import Starvation

__all__ = ["Intake", "close"]

log = logging.getLogger("tranship.worker")

WAIT: Final = 5.0
"""Seconds one receive may wait at most; it returns as soon as there is something."""
CLOSING: Final = 10.0
"""Seconds that closing a consumer may take."""
BATCH: Final = 100


class _Silent(BrokerUnreachable):
    """The consumer does not say a word: build a new one.

    What an error says itself is left to the driver, which connects again by itself.
    """


class Intake:
    """Receives for one worker and rebuilds the consumer when it fails or falls silent.

    Args:
        make_consumer: makes a new consumer of the worker's queues.
        free: how many deliveries may be taken now.
        take: starts one delivery; told the monotonic time just before it was received.
        skip: which queues are to be left alone now; what it says may change until :meth:`reopened`.
        silence: seconds without a word from the broker after which the consumer is rebuilt; a receive that
            does not come back is given up after half of that.
        starvation: compares what comes with what is ready; None: the broker cannot say.
    """

    def __init__(
        self,
        make_consumer: Callable[[], Consumer],
        *,
        free: Callable[[], int],
        take: Callable[[Delivery, float], None],
        silence: float,
        skip: Callable[[], Collection[str]] = tuple,
        starvation: Starvation | None = None,
    ) -> None:
        self.consumer = make_consumer()
        self.heard_at = time.monotonic()
        self.failed: TranshipError | None = None
        """Why it is not consuming right now."""
        self.backlog = False
        """Whether the broker had at least as much as we asked for, last time."""
        self._make_consumer = make_consumer
        self._free = free
        self._take = take
        self._skip = skip
        self._skipped: Collection[str] = ()
        """The queues that the last receive left alone."""
        self._silence = silence
        self._starvation = starvation
        self._wait = min(WAIT, silence / 6, _third(self.consumer.lease))
        self._longest = self._wait + silence / 2
        """Seconds after which a receive is given up."""
        self._room = asyncio.Event()
        self._again = asyncio.Event()
        """Set: no pause is to be slept out."""
        self._full = False
        self._stopping = False
        self._stale = False
        """Whether a new consumer is to be made before anything else is received."""
        self._receiver: asyncio.Task[Any] | None = None
        """The task that waits in receive."""
        self._interrupted = False
        """Whether it is being cancelled by us."""
        self._patience = LazyTimer(self._give_up)
        self._overdue = False
        """Whether the receive that is under way has not come back in time."""
        self.retired: Callable[[Consumer], None] = lambda _consumer: None
        """Called with a consumer that was replaced; it is to be closed once nothing it brought is held."""

    @property
    def ready(self) -> bool:
        """Whether it is consuming (no failure, a word from the broker not long ago), or at work on all it may take."""
        return self.failed is None and (self._full or time.monotonic() - self.heard_at < self._silence + self._wait)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    def room(self) -> None:
        """A slot has become free."""
        self._room.set()

    def reopened(self) -> None:
        """Queues that were to be left alone no longer are: a receive that waits without them is asked anew."""
        self._room.set()
        if self._skipped:
            self._interrupt()

    def ask_anew(self) -> None:
        """What is to be received has changed: a receive that waits is asked anew."""
        self._room.set()
        self._interrupt()

    def hurry(self) -> None:
        """The connection is back: receive again at once."""
        self._again.set()

    def renew(self) -> None:
        """Make a new consumer before the next receive; the old one is closed once nothing it brought is held."""
        self._stale = True

    async def run(self) -> None:
        """Receive until :meth:`stop`.

        Raises:
            BrokerError: a permanent one; the worker is of no use any more.
        """
        pauses = Pauses()
        while not self._stopping:
            # Before the step: what comes back while it fails counts.
            self._again.clear()
            try:
                await self._step()
            except ClosedError:
                return
            except TranshipError as error:
                if isinstance(error, BrokerError) and not error.retryable:
                    raise
                self.failed = error
                pause = pauses.next()
                log.warning("receiving failed, trying again in %.1f s: %s", pause, error)
                if await self._hurried(pause):
                    pauses.reset()
                if isinstance(error, _Silent):
                    self._rebuild()
            else:
                pauses.reset()

    def stop(self) -> None:
        """Receive no more. What was received in the very last moment is given back by the consumer."""
        self._stopping = True
        self._room.set()
        self._again.set()
        self._interrupt()

    async def aclose(self) -> None:
        """Close the consumer, once nothing is left to settle."""
        await close(self.consumer)

    async def _step(self) -> None:
        if self._stale:
            self._rebuild()
        free = min(self._free(), BATCH)
        if free <= 0:
            # Cleared before looking again, so that a slot freed in between is not missed.
            self._room.clear()
            if self._free() <= 0:
                await self._until_room()
            return
        asked = time.monotonic()
        self._skipped = self._skip()
        received = await self._receive(free)
        if received is None:
            return
        self._heard(received)
        await self._compare(received)
        # One slot says nothing: it is always filled.
        self.backlog = len(received.deliveries) == free > 1
        for delivery in received.deliveries:
            self._take(delivery, asked)

    async def _hurried(self, pause: float) -> bool:
        """Wait for ``pause`` seconds, or until the connection is back or it is over: whether that came first."""
        try:
            async with asyncio.timeout(pause):
                return await self._again.wait()
        except TimeoutError:
            return False

    async def _until_room(self) -> None:
        self._full = True
        try:
            await self._room.wait()
        finally:
            self._full = False
            # Nobody asked meanwhile: the silence begins now.
            self.heard_at = time.monotonic()
            if self._starvation is not None:
                self._starvation.fed()

    async def _receive(self, limit: int) -> Received | None:
        self._receiver = receiver = asyncio.current_task()
        assert receiver is not None
        now = asyncio.get_running_loop().time()
        self._patience.set(now + self._longest)
        try:
            wait = min(self._wait, next_round(now, WAIT) - now)
            received = await self.consumer.receive(limit, wait, skip=self._skipped)
            if self._interrupted:
                # It came back at the very moment, or it swallows cancels: either way ours is over.
                receiver.uncancel()
            return received
        except asyncio.CancelledError:
            if not self._interrupted or receiver.uncancel() > 0:
                raise
            if self._overdue and not self._stopping:
                raise _Silent(f"receiving has not come back for {self._longest:g} s") from None
            return None
        finally:
            self._patience.clear()
            self._receiver = None
            self._interrupted = self._overdue = False

    def _give_up(self) -> None:
        self._overdue = self._receiver is not None
        self._interrupt()

    def _interrupt(self) -> None:
        """End the receive that is under way, if there is one, for whatever of our reasons: it counts once."""
        if self._receiver is not None and not self._interrupted:
            self._interrupted = True
            self._receiver.cancel()

    def _heard(self, received: Received) -> None:
        now = time.monotonic()
        if received.confirmed or received.deliveries:
            self.heard_at = now
            self.failed = None
        elif now - self.heard_at > self._silence:
            raise _Silent(f"nothing was heard from the broker for {now - self.heard_at:.0f} s")

    async def _compare(self, received: Received) -> None:
        """A broker that answers, and gives nothing, is believed only as long as it has nothing."""
        starvation = self._starvation
        if starvation is None or self._stopping:
            return
        if received.deliveries or self._skipped:
            # What is left alone is ready, too, and nobody starves of it.
            starvation.fed()
        elif ready := await starvation.ready():
            seconds = time.monotonic() - starvation.since
            starvation.fed()
            raise _Silent(f"{ready} messages are ready, and none has come for {seconds:.0f} s; a new consumer is made")

    def _rebuild(self) -> None:
        if not self._stopping:
            # Closing the old one here would give back what is running.
            old, self.consumer = self.consumer, self._make_consumer()
            self._stale = False
            self.heard_at = time.monotonic()
            self.retired(old)


async def close(consumer: Consumer) -> None:
    """Close ``consumer``, whatever state it is in, within bounds."""
    closing = asyncio.ensure_future(consumer.aclose())
    await asyncio.wait({closing}, timeout=CLOSING)
    if not closing.done():
        closing.cancel()
    elif closing.exception() is not None:
        log.debug("closing the consumer failed: %r", closing.exception())


def _third(lease: float | None) -> float:
    """The longest a receive may wait: what comes at its end counts as ours from its beginning."""
    return float("inf") if lease is None else lease / 3
