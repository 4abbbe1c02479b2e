"""Taking: turns within a level, suspects alone, what a cancelled receive had taken; in flight until settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from tranship.checks import whole
from tranship.driver._delay import Delays
from tranship.driver._inflight import DeliveryToken, InFlightTable
from tranship.driver._nouns import Slot, Stored, TakenBatch, Undo
from tranship.driver._prefetch import PrefetchBuffer, apart_from_suspects
from tranship.driver._protocols import Connection, Picking, Pushing, Queue, Renewing, Scanning, Watching, traits_of
from tranship.driver._settling import Settling
from tranship.driver._supervisor import Supervisor
from tranship.envelope import Priority
from tranship.errors import ClosedError, PluginError, TranshipError, UnsupportedError
from tranship.guards import OneReceiver
from tranship.ports import ConnectionEvent, Delivery, Received, Settled, Settlement
from tranship.timers import Sleeper

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
        self._queues = list(dict.fromkeys(queues))
        self._traits = traits_of(supervisor.current.queue)
        self._receiver = OneReceiver()
        self._buffer = PrefetchBuffer(self._traits.lease)
        self._in_flight = InFlightTable()
        self._taking: asyncio.Task[TakenBatch] | None = None
        self._news = asyncio.Event()
        self._patience = Sleeper()
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._holding: asyncio.TimerHandle | None = None
        self._demanded = False
        self._unwatch: Undo | None = None
        self._pushing: Pushing | None = None
        self._meet(supervisor.current.queue)
        supervisor.listeners.append(self._connection_changed)

    @property
    def lease(self) -> float | None:
        """How long a delivery is ours without :meth:`extend`."""
        return self._traits.lease

    @property
    def hard_limit(self) -> float | None:
        """The longest that a delivery can be held."""
        return self._traits.hard_limit

    # Waking.

    def _meet(self, queue: Queue) -> None:
        """Use what the queue of a new connection can do besides; asking for a protocol is slow."""
        self._pushing = queue if isinstance(queue, Pushing) else None
        if isinstance(queue, Watching):
            self._unwatch = queue.watch(self._slots(), self._news.set)

    def _connection_changed(self, event: ConnectionEvent, _generation: int) -> None:
        if event is ConnectionEvent.LOST and not self._traits.tokens_survive:
            self._buffer.clear()
            self._in_flight.clear()
        if event is ConnectionEvent.RESTORED:
            self._meet(self._supervisor.current.queue)
        self._news.set()

    async def _woken(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _slots(self, skip: Collection[str] = ()) -> list[Slot]:
        """Every slot, most urgent first; the queue that waits longest for its turn is first on each level."""
        levels = Priority if self._traits.levels else (Priority.NORMAL,)
        return [(queue, level) for level in levels for queue in self._queues if queue not in skip]

    # Receiving.

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Return deliveries as soon as there is one."""
        whole("limit", limit)
        self._check()
        with self._receiver:
            self._keep_held()
            try:
                return await self._receive(limit, asyncio.get_running_loop().time() + wait, skip)
            finally:
                self._hold_for_a_while()

    async def _receive(self, limit: int, until: float, skip: Collection[str]) -> Received:
        loop = asyncio.get_running_loop()
        while True:
            await self._until_connected(until)
            self._news.clear()
            self._check()
            if stale := self._buffer.stale(loop.time()):
                self._supervisor.spawn(self._give_back(stale))
            batch = None if self._buffer.has(skip) else await self._batch(limit, until, skip)
            self._check()
            if tokens := self._buffer.serve(limit, skip):
                return Received(self._handed_out(tokens))
            left = until - loop.time()
            if left <= 0 or batch is None:
                return Received((), confirmed=batch is not None and batch.confirmed)
            await self._woken(self._pause(left, batch))

    async def _until_connected(self, until: float) -> None:
        """Wait for the connection: who is told at once that there is none asks again much later than it is back."""
        loop = asyncio.get_running_loop()
        while not self._supervisor.connected and not self._closing.done() and loop.time() < until:
            self._news.clear()
            await self._woken(until - loop.time())

    def _pause(self, left: float, batch: TakenBatch) -> float:
        """Return how long to wait after nothing was taken, unless something wakes us."""
        if self._traits.waits and self._slots():
            return 0.0
        pause = left if batch.next_due is None else min(left, max(batch.next_due, SHORTEST))
        return pause if self._unwatch is not None else min(pause, LOOK)

    async def _batch(self, limit: int, until: float, skip: Collection[str]) -> TakenBatch | None:
        """Take, or let the take that is under way finish; None: nothing was heard in time."""
        slots, left = self._slots(skip), max(until - asyncio.get_running_loop().time(), 0.0)
        if not slots:
            await self._woken(left)
            return TakenBatch()
        patience = left + SILENCE
        # What was done when nobody received is in the buffer, and says nothing of now.
        if self._taking is None or self._taking.done():
            self._demand(slots, limit)
            self._taking = self._supervisor.spawn(self._take(slots, limit, left))
        elif self._traits.waits:
            patience = left
        taking = self._taking
        # It ends, too, when this consumer is closed.
        taking.add_done_callback(self._patience.wake)
        await self._patience.sleep(patience)
        return self._taken(taking) if taking.done() else None

    def _taken(self, taking: asyncio.Task[TakenBatch]) -> TakenBatch:
        """Return what a take brought that is done, whoever began it."""
        if self._taking is taking:
            self._taking = None
        if taking.cancelled():
            raise ClosedError(f"{self._supervisor.url} is closed")
        return taking.result()

    async def _take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Take into the buffer: what may travel together."""
        generation = self._supervisor.generation
        waits = wait if self._traits.waits else 0.0
        batch = await self._supervisor.run("take", lambda c: c.queue.take(slots, limit, wait), wait=waits)
        if not isinstance(batch, TakenBatch):
            raise PluginError(f"{self._supervisor.name}: take() gave {batch!r:.100}; expected a TakenBatch")
        now = asyncio.get_running_loop().time()
        tokens = [DeliveryToken(one, generation, now) for one in batch.items]
        together, rest = apart_from_suspects(tokens)
        self._buffer.put(together)
        served = {token.taken.queue for token in together}
        self._queues.sort(key=lambda queue: queue in served)
        # Not kept: killed by the suspect, we would raise their counts.
        await self._give_back(rest)
        if not self._receiver.busy:
            self._hold_for_a_while()
        return batch

    def _handed_out(self, tokens: Sequence[DeliveryToken]) -> list[Delivery]:
        self._in_flight.add(tokens)
        return [
            Delivery(
                token.taken.opened()[1],
                token.taken.queue,
                token.taken.level,
                token,
                token.taken.count,
                self._traits.counts,
                token.generation,
            )
            for token in tokens
        ]

    async def receive_early(self, limit: int) -> Received:
        """Return messages that are not due yet."""
        whole("limit", limit)
        self._check()
        with self._receiver:
            tokens = await self._supervisor.together(self._early(limit))
            return Received(self._handed_out(tokens))

    async def _early(self, limit: int) -> list[DeliveryToken]:
        connection, now = self._supervisor.current, asyncio.get_running_loop().time()
        queue, generation = connection.queue, self._supervisor.generation
        if not self._traits.delays and connection.table is not None:
            waiting = [one async for one in self._delays.waiting() if one.facts.queue in self._queues]
            claimed = await self._delays.claim(waiting[:limit], self.lease or CLAIMED)
            return [DeliveryToken(one.taken(), generation, now, one) for one in claimed]
        if not isinstance(queue, Scanning) or not isinstance(queue, Picking):
            raise UnsupportedError(f"{self._supervisor.name} cannot take messages before they are due")
        found: list[Stored] = []
        for name in self._queues:
            found += await self._supervisor.run("scan", partial(_scan_delayed, queue, name, limit))
        refs = [one.ref for one in found[:limit]]
        taken = await self._supervisor.run("pick", lambda _: queue.pick(refs))
        return [DeliveryToken(one, generation, now) for one in taken]

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
        if (self._buffer or self._demanded) and self._holding is None and not self._closing.done():
            self._holding = asyncio.get_running_loop().call_later(HELD, self._hold_no_longer)

    def _hold_no_longer(self) -> None:
        self._holding = None
        if self._supervisor.connected and not self._supervisor.gate.closed:
            self._supervisor.spawn(self._return_held())

    async def _return_held(self) -> None:
        """Give back what is held, and what the broker has pushed meanwhile."""
        if self._demanded:
            self._demand(self._slots(), 0)
            if self._taking is None or self._taking.done():
                self._taking = self._supervisor.spawn(self._take(self._slots(), 1, 0.0))
                await asyncio.wait({self._taking})
        if not self._receiver.busy:
            await self._give_back(self._buffer.clear())

    async def _give_back(self, tokens: Sequence[DeliveryToken]) -> None:
        try:
            await self._settling.release(tokens)
        except TranshipError as error:
            log.info(
                "%s: %d messages are not given back, and come after their lease: %s",
                self._supervisor.url,
                len(tokens),
                error,
            )

    # Settling.

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries back, not counted."""
        self._check()
        tokens = [one.token for one in deliveries if one.token in self._in_flight]
        await self._supervisor.together(self._settling.release(tokens))
        self._in_flight.drop(tokens)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Renew leases; say of each whether it is ours."""
        self._check()
        return await self._supervisor.together(self._extend([one.token for one in deliveries]))

    async def _extend(self, tokens: Sequence[DeliveryToken]) -> list[bool]:
        ours = {token: True for token in tokens if token in self._in_flight}
        for token in ours:
            if token.delayed is not None:
                ours[token] = await self._delays.renew(token.delayed, self.lease or CLAIMED)
        queued = [token for token in ours if token.delayed is None]
        if queued and self._traits.lease is not None:
            queue = self._supervisor.current.queue
            assert isinstance(queue, Renewing)
            found = await self._supervisor.run("renew", lambda _: queue.renew([one.taken.token for one in queued]))
            ours |= zip(queued, self._supervisor.answered("renew", found, len(queued)), strict=True)
        self._in_flight.drop(token for token, is_ours in ours.items() if not is_ours and not token.unsure)
        return [ours.get(token, False) for token in tokens]

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        """Carry out verdicts."""
        self._settling.check(settlements)
        self._check()
        return await self._supervisor.together(self._settling.settle(self._in_flight, settlements))

    # The end.

    def _check(self) -> None:
        self._supervisor.gate.check()
        if self._closing.done():
            raise ClosedError("this consumer has been closed; make a new one")

    async def aclose(self) -> None:
        """Stop receiving, and give back what is held and in flight. Idempotent."""
        if self._closing.done():
            return
        self._closing.set_result(None)
        self._patience.close()
        self._news.set()
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
            if self._traits.waits:
                taking.cancel()
            await asyncio.wait({taking}, timeout=SILENCE)
        await self._give_back([*self._buffer.clear(), *self._in_flight.clear()])


async def _scan_delayed(queue: Scanning, name: str, limit: int, _connection: Connection) -> Sequence[Stored]:
    return await queue.scan(name, "delayed", limit)
