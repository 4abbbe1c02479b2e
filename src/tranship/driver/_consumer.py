"""Taking: turns within a level, suspects alone, what a cancelled receive had taken; in flight until settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final

from tranship.checks import whole
from tranship.driver._answers import checked_batch
from tranship.driver._delay import DelayedRow, Delays
from tranship.driver._nouns import Slot, Taken, TakenBatch, Undo
from tranship.driver._prefetch import SUSPECT, PrefetchBuffer, Turns, apart_from_suspects
from tranship.driver._queue import (
    Interruptible,
    Pushing,
    Queue,
    Reader,
    Reading,
    Renewing,
    Watching,
    traits_of,
)
from tranship.driver._settling import Settling
from tranship.driver._shielded import Left, Shielded
from tranship.driver._supervisor import Supervisor
from tranship.envelope import Priority
from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.guards import OneReceiver
from tranship.ports import ConnectionEvent, CountKind, Delivery, Received, Settled, Settlement
from tranship.timers import LazyTimer, Sleeper

__all__ = ["DriverConsumer"]

log = logging.getLogger("tranship.driver")

LOOK: Final = 0.05
"""Seconds between two looks at a queue that cannot be watched."""
SHORTEST: Final = 0.005
SILENCE: Final = 1.0
"""Seconds beyond what a receive may wait, after which nothing was heard."""
HELD: Final = 1.0
"""Seconds for which what nobody asks for is held: then others get it."""
CLAIMED: Final = 30.0
"""Seconds for which a message that was taken before it is due is ours, where the queue has no leases."""


class DriverConsumer:
    """A consumer; see :class:`tranship.ports.Consumer`.

    A take that was sent cannot be called back. It stays under way when its receive is cancelled, and what it brings is
    served by the next one, or given back soon.

    Args:
        supervisor: of the backend.
        queues: names, in no order.
        settling, delays: of the backend.
        closed: called with the consumer once it is closed.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        queues: Sequence[str],
        settling: Settling,
        delays: Delays,
        closed: Callable[[DriverConsumer], None],
    ) -> None:
        self._supervisor, self._settling, self._delays, self._on_closed = supervisor, settling, delays, closed
        self._traits = supervisor.traits
        self._receiver = OneReceiver()
        self._turns = Turns(queues, Priority if self._traits.levels else (Priority.NORMAL,))
        self._buffer = PrefetchBuffer(self._traits.lease)
        self._in_flight: dict[Delivery, Taken] = {}
        """The in-flight table: what was handed out and has not ended."""
        self._taking: Shielded[TakenBatch] | None = None
        self._patience = LazyTimer(self._leave_take)
        self._news = False
        """Whether something may be there that was not when we looked last."""
        self._quiet_until = 0.0
        """Until then a look would find nothing, if there is no news."""
        self._loop = asyncio.get_running_loop()
        self._idle = False
        """Whether a receive waits for news."""
        self._sleeper = Sleeper()
        self._is_closed = False
        self._holding: asyncio.TimerHandle | None = None
        self._demanded = False
        self._careful = False
        """The last that was taken was a suspect: there may be more, and whatever is taken with them is counted."""
        self._unwatch: Undo | None = None
        self._taken_from: Sequence[Slot] = ()
        """What is taken from, as it was given."""
        self._pushing: Pushing | None = None
        self._interruptible: Interruptible | None = None
        self._met: Queue | None = None
        self._reader: Reader | None = None
        self._source: Queue | Reader
        """What is taken with: the queue that was met last, or its reader."""
        self._meet(supervisor.current.queue)
        supervisor.listeners.append(self._connection_changed)

    @property
    def lease(self) -> float | None:
        """How long a delivery is ours without :meth:`extend`."""
        if not self._supervisor.connected:
            return self._traits.lease
        # A broker may tell only when a queue is used what its leases really are.
        return traits_of(self._supervisor.current.queue).lease

    @property
    def hard_limit(self) -> float | None:
        """The longest that a delivery can be held."""
        return self._traits.hard_limit

    # Waking.

    def _meet(self, queue: Queue) -> None:
        """Use what the queue of a new connection can do besides; asking for a protocol is slow."""
        self._met, self._reader = queue, queue.reader() if isinstance(queue, Reading) else None
        self._source = self._reader or queue
        self._pushing = self._source if isinstance(self._source, Pushing) else None
        self._interruptible = self._source if isinstance(self._source, Interruptible) else None
        if isinstance(queue, Watching):
            self._unwatch = queue.watch(self._turns.slots(), self._heard)

    def _meet_current(self) -> None:
        queue = self._supervisor.current.queue
        if queue is not self._met:
            self._meet(queue)

    def _heard(self) -> None:
        self._news = True
        if self._idle:
            self._sleeper.wake()

    def _connection_changed(self, event: ConnectionEvent, _generation: int) -> None:
        if event is ConnectionEvent.LOST and not self._traits.tokens_survive:
            self._buffer.clear()
            self._in_flight.clear()
        if event is ConnectionEvent.RESTORED:
            self._meet_current()
        self._heard()

    async def _woken(self, seconds: float) -> None:
        """Wait for news, so long at most."""
        if not self._news:
            self._idle = True
            try:
                await self._sleeper.sleep(seconds)
            finally:
                self._idle = False

    # Receiving.

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Return deliveries as soon as there is one."""
        whole("limit", limit)
        self._check()
        with self._receiver:
            if self._holding is not None:
                self._keep_held()
            try:
                return await self._receive(limit, self._loop.time() + wait, skip)
            finally:
                if self._buffer.taken or self._demanded:
                    self._hold_for_a_while()

    async def _receive(self, limit: int, until: float, skip: Collection[str]) -> Received:
        while True:
            if not self._supervisor.connected:
                await self._until_connected(until)
                self._check()
            batch = None if self._buffer.taken and self._has(skip) else await self._batch(limit, until, skip)
            if self._buffer.taken and (taken := self._buffer.serve(limit, skip)):
                return Received(self._handed_out(taken))
            now = self._loop.time()
            if now >= until or batch is None:
                return Received((), confirmed=batch is not None and batch.confirmed)
            if (pause := self._pause(until - now, batch)) > 0:
                await self._woken(pause)
                self._check()

    def _has(self, skip: Collection[str]) -> bool:
        """Whether there is something to hand out; what has lain here for too long is given back."""
        if stale := self._buffer.stale(self._loop.time()):
            self._supervisor.spawn(self._give_back(stale))
        return self._buffer.has(skip)

    async def _until_connected(self, until: float) -> None:
        """Wait for the connection: who is told at once that there is none asks again much later than it is back."""
        while not self._supervisor.connected and (left := until - self._loop.time()) > 0:
            self._check()
            self._news = False
            await self._woken(left)

    def _pause(self, left: float, batch: TakenBatch) -> float:
        """Return how long to wait after nothing was taken, unless something wakes us."""
        if self._traits.waits and self._turns.slots():
            return 0.0
        pause = left if batch.next_due is None else min(left, max(batch.next_due, SHORTEST))
        return pause if self._unwatch is not None else min(pause, LOOK)

    async def _batch(self, limit: int, until: float, skip: Collection[str]) -> TakenBatch | None:
        """Take, or let the take that is under way finish; None: nothing was heard in time."""
        now = self._loop.time()
        left = max(until - now, 0.0)
        if left and now < self._quiet_until and not self._news:
            return TakenBatch(next_due=self._quiet_until - now)
        # What was known before this look says nothing after it: something that is due soon may have come.
        self._news, self._quiet_until = False, 0.0
        slots = self._turns.slots(skip)
        if not slots:
            await self._woken(left)
            return TakenBatch()
        if self._supervisor.immediate:
            return await self._take(slots, limit, left)
        patience = now + left + SILENCE
        # What was done when nobody received is in the buffer, and says nothing of now.
        if self._taking is None or self._taking.done():
            self._meet_current()
            self._demand(slots, limit)
            self._taken_from = slots
            self._taking = self._supervisor.shielded(self._take(slots, limit, left))
        else:
            # It may wait for something else than what is wanted now.
            self._demand(slots, limit)
            if self._interruptible is not None and slots != self._taken_from:
                self._interruptible.interrupt(self._taken_from)
            patience = now + left if self._traits.waits else patience
        return await self._patiently(self._taking, patience)

    async def _patiently(self, taking: Shielded[TakenBatch], until: float) -> TakenBatch | None:
        """Return what a take brings, whoever began it; None: nothing was heard until then, and it goes on."""
        self._patience.set(until)
        batch = None
        try:
            batch = await taking
        except Left:
            pass
        except BrokerUnreachable:
            # Of what is closed meanwhile the connection has gone, too.
            self._check()
            raise
        finally:
            self._patience.clear()
        self._check()
        return batch

    def _leave_take(self) -> None:
        if self._taking is not None:
            self._taking.leave()

    async def _take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Take into the buffer: what may travel together."""
        generation = self._supervisor.generation
        supervisor, waits = self._supervisor, wait if self._traits.waits else 0.0
        limit = 1 if self._careful else limit
        if supervisor.immediate:
            batch = supervisor.now("take", lambda _: self._source.take(slots, limit, wait))
        else:
            batch = await supervisor.run("take", lambda _: self._source.take(slots, limit, wait), wait=waits)
        checked_batch(supervisor.name, batch)
        if not batch.items:
            return batch
        now = self._loop.time()
        quiet = batch.emptied and self._unwatch is not None and slots is self._turns.slots()
        self._quiet_until = now + (batch.next_due or 0.0) if quiet else 0.0
        if self._is_closed:
            # It ignored that it was cancelled: nobody is here to get it.
            await self._give_back(batch.items)
            return batch
        self._stamp(batch.items, generation, now)
        together, rest = apart_from_suspects(batch.items)
        self._careful = self._traits.counts is not CountKind.EXACT and together[-1].delivery_count >= SUSPECT
        self._buffer.put(together)
        if not self._traits.turns:
            self._turns.served(together)
        if rest:
            # Not kept: killed by the suspect, we would raise their counts.
            await self._give_back(rest)
        if not self._receiver.busy and (self._buffer.taken or self._demanded):
            self._hold_for_a_while()
        return batch

    def _stamp(self, taken: Sequence[Taken], generation: int, now: float) -> None:
        """Note when it was taken, and over which connection."""
        counts = self._traits.counts
        for one in taken:
            one.taken_at, one.generation, one.count_kind = now, generation, counts

    def _handed_out(self, taken: Sequence[Taken]) -> Sequence[Delivery]:
        for one in taken:
            one.unpack()
        self._in_flight.update(zip(taken, taken, strict=True))
        return taken

    # What is held.

    def _demand(self, slots: Sequence[Slot], credit: int) -> None:
        if self._pushing is not None:
            self._pushing.demand(slots, credit)
            self._demanded = credit > 0

    def _keep_held(self) -> None:
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None

    def _hold_for_a_while(self) -> None:
        """Give back what is held unless somebody asks for it soon."""
        if self._holding is None and not self._is_closed:
            self._holding = self._loop.call_later(HELD, self._hold_no_longer)

    def _hold_no_longer(self) -> None:
        self._holding = None
        if self._supervisor.connected and not self._supervisor.gate.closed:
            self._supervisor.spawn(self._return_held())

    async def _return_held(self) -> None:
        """Give back what is held, and what the broker has pushed meanwhile."""
        if self._demanded:
            self._demand(self._turns.slots(), 0)
            if self._taking is None or self._taking.done():
                self._taking = self._supervisor.shielded(self._take(self._turns.slots(), 1, 0.0), in_task=True)
                await self._taking.gone()
        if not self._receiver.busy:
            await self._give_back(self._buffer.clear())

    async def _give_back(self, taken: Sequence[Taken]) -> None:
        try:
            await self._settling.release(taken, handed_out=False)
        except TranshipError as error:
            log.info(
                "%s: %d messages are not given back, and come after their lease: %s",
                self._supervisor.url,
                len(taken),
                error,
            )

    # Settling.

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries back, not counted."""
        self._check()
        taken = self._ours(deliveries)
        await self._supervisor.together(self._settling.release(taken, handed_out=True))
        for one in taken:
            self._in_flight.pop(one, None)

    def _ours(self, deliveries: Sequence[Delivery]) -> list[Taken]:
        return [found for one in deliveries if (found := self._in_flight.get(one)) is not None]

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Renew leases; say of each whether it is ours."""
        self._check()
        return await self._supervisor.together(self._extend(deliveries))

    async def _extend(self, deliveries: Sequence[Delivery]) -> list[bool]:
        ours = dict.fromkeys(self._ours(deliveries), True)
        for one in ours:
            if isinstance(one.token, DelayedRow):
                ours[one] = await self._delays.renew(one.token, self.lease or CLAIMED)
        queued = [one for one in ours if not isinstance(one.token, DelayedRow)]
        if queued and isinstance(queue := self._supervisor.current.queue, Renewing):
            asked, renew = [one.token for one in queued], queue.renew
            renewed = await self._supervisor.answers("renew", lambda _: renew(asked), len(asked))
            ours |= zip(queued, renewed, strict=True)
        for one, is_ours in ours.items():
            if not is_ours and not one.unsure:
                self._in_flight.pop(one, None)
        kept = {one for one, is_ours in ours.items() if is_ours}
        return [one in kept for one in deliveries]

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """Carry out verdicts."""
        self._check()
        return await self._supervisor.together(self._settling.settle(self._in_flight, settlements))

    # The end.

    def _check(self) -> None:
        gate = self._supervisor.gate
        if gate.closed or gate.failure is not None:
            gate.check()
        if self._is_closed:
            raise ClosedError("this consumer has been closed; make a new one")

    async def aclose(self) -> None:
        """Stop receiving, and give back what is held and in flight. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._heard()
        self._sleeper.close()
        self._leave_take()
        self._patience.close()
        self._keep_held()
        self._supervisor.listeners.remove(self._connection_changed)
        if self._unwatch is not None:
            self._unwatch()
        self._on_closed(self)
        with contextlib.suppress(TranshipError):
            await self._supervisor.together(self._give_up())

    async def _give_up(self) -> None:
        taking, self._taking = self._taking, None
        if taking is not None:
            if self._traits.waits and taking.task is not None:
                taking.task.cancel()
            await taking.gone(SILENCE)
        reader, in_flight = self._reader, list(self._in_flight.values())
        self._in_flight.clear()
        # What was handed out goes back with what a reader has, as it was taken.
        await self._give_back([*self._buffer.clear(), *(in_flight if reader is None else ())])
        if reader is not None:
            await self._supervisor.run("aclose", lambda _: reader.aclose())
