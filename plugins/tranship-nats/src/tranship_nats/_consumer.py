"""The consumer: sweeps level by level, waits on all of them, holds what came beside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from tranship.checks import whole
from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.guards import OneReceiver
from tranship.ports import Delivery, Received, Settled, Settlement
from tranship_nats._box import Box
from tranship_nats._context import Context
from tranship_nats._early import Early
from tranship_nats._ghosts import Place
from tranship_nats._handed import Handed
from tranship_nats._held import Pair
from tranship_nats._levels import pairs_of
from tranship_nats._pulls import Pulls
from tranship_nats._settling import Settling, disown
from tranship_nats._sweeper import Sweeper

__all__ = ["NatsConsumer"]

log = logging.getLogger("tranship.nats")

_CHECK: Final = 2.0
"""Seconds that looking after the consumers may take at least."""
_UNHEARD: Final = 0.2
"""Seconds between two attempts at a server that answers with errors, or not at all."""


class NatsConsumer:
    """Takes messages from ``queues``; see :class:`tranship.ports.Consumer`.

    Args:
        ctx: the backend's.
        queues: names, in no order.
        start: awaited before the first receive: starts what moves delayed tasks.
        on_close: called with the consumer when it has been closed.

    Raises:
        InvalidOptionError: a name that is too long, or holds half a character.
    """

    hard_limit = None

    def __init__(
        self,
        ctx: Context,
        queues: Sequence[str],
        start: Callable[[], None],
        on_close: Callable[[NatsConsumer], None],
    ) -> None:
        self._ctx = ctx
        self._queues = list(dict.fromkeys(queues))
        self._pairs = pairs_of(ctx.names, self._queues)
        self._start = start
        self._on_close = on_close
        self._settling = Settling(ctx)
        self._handed = Handed(ctx.link, ctx.names.api)
        self._box = Box(ctx.link, ctx.options.lease, self._handed, ctx.recent)
        self._pulls = Pulls(ctx.link, self._pairs, self._box.put, ctx.api)
        self._early = Early(ctx, self._queues)
        self._sweeper = Sweeper(self._pulls, self._box)
        self._receiving = OneReceiver()
        self._closed = False
        self._closing = asyncio.Event()
        self._ready = -1
        """The generation in which the consumers were there."""

    @property
    def lease(self) -> float | None:
        """The option of that name; less where the server's consumers were made with less.

        That is known once :meth:`tranship.ports.Backend.ensure` has been called, or something was received.
        """
        return self._ctx.consumers.lease(self._queues)

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Take what is there, or wait for it."""
        whole("limit", limit)
        self._check()
        with self._alone():
            return await self._receive(limit, wait, skip)

    async def receive_early(self, limit: int) -> Received:
        """Take what is not due yet, the earliest first; see :class:`tranship.ports.EarlyConsumer`."""
        whole("limit", limit)
        self._check()
        with self._alone():
            return Received(await self._early.take(limit))

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries back; each is counted once more."""
        self._check()
        held = [delivery.token for delivery in deliveries]
        await disown(self._ctx, held)
        await self._handed.give_back(held)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Renew leases; one that has ended by our clock stays lost."""
        self._check()
        held = [delivery.token for delivery in deliveries]
        await disown(self._ctx, held)
        return await self._handed.renew(held, self._ctx.consumers.lease(self._queues))

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """End deliveries; what takes their place is stored before."""
        self._check()
        try:
            return await self._settling.settle(settlements)
        finally:
            self._handed.forget(settlement.delivery.token for settlement in settlements)

    async def aclose(self) -> None:
        """Give back what has not been settled. Idempotent."""
        first, self._closed = not self._closed, True
        if not first:
            return
        self._closing.set()
        try:
            await self._pulls.aclose()
            await self._box.aclose()
            held = [*self._handed.clear(), *(one.held(0.0) for one in self._box.clear())]
            if self._ctx.link.up:
                await self._handed.give_back(held)
        finally:
            self._on_close(self)

    # Receiving.

    async def _receive(self, limit: int, wait: float, skip: Collection[str]) -> Received:
        until = asyncio.get_running_loop().time() + wait
        self._start()
        while True:
            try:
                received = await self._look(limit, until, skip)
            except BrokerUnreachable as error:
                # A server that leaves, or has lost its stream, is waited for: it is asked again, or the next one.
                left = until - asyncio.get_running_loop().time()
                if left <= 0:
                    raise
                log.debug("nothing can be received now, trying again: %s", error)
                await self._pause(min(left, _UNHEARD))
            else:
                if received is not None:
                    return received
            self._check()

    async def _look(self, limit: int, until: float, skip: Collection[str]) -> Received | None:
        """Take what is there, or wait for it once; None: look again.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        loop = asyncio.get_running_loop()
        await self._connected(until)
        pairs = [pair for pair in self._pairs if pair.queue not in skip]
        heard = await self._ensure(until) and await self._sweeper.sweep(pairs, 1 if self._box.careful else limit)
        if deliveries := await self._hand_out(limit, skip):
            return Received(deliveries)
        if (left := until - loop.time()) <= 0:
            return Received((), heard)
        heard = await self._wait(pairs, left, heard=heard)
        self._check()
        # All levels were asked at once: what has come is the most urgent there is, without looking again.
        if self._ctx.link.up and (deliveries := await self._hand_out(limit, skip)):
            return Received(deliveries)
        if not self._ctx.link.up and until <= loop.time():
            raise self._ctx.link.down()
        return Received((), heard) if until <= loop.time() and not len(self._box) else None

    async def _connected(self, until: float) -> None:
        """Wait for a connection.

        Raises:
            BrokerUnreachable: there is none until then.
        """
        if not await self._ctx.link.until_up(until - asyncio.get_running_loop().time()):
            self._check()
            raise self._ctx.link.down()

    async def _ensure(self, until: float) -> bool:
        """Make the consumers where they are missing; False: nothing was heard of them in time.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        generation, pulls = self._ctx.link.generation, self._pulls
        if self._ready == generation and not pulls.troubled:
            return True
        if pulls.troubled:
            self._ctx.streams.found.pop("work", None)
        try:
            async with asyncio.timeout_at(max(until, asyncio.get_running_loop().time() + _CHECK)):
                await self._ctx.consumers.ensure(self._pairs)
        except TimeoutError:
            return False
        if self._ready != generation:
            for pair in self._pairs:
                self._ctx.ghosts.look(Place(pair.stream, pair.consumer, pair.subject.decode()))
        self._ready, pulls.troubled = generation, False
        return True

    async def _wait(self, pairs: Sequence[Pair], left: float, *, heard: bool) -> bool:
        """Wait for a message; where the server does not answer, for another attempt."""
        if not heard or self._pulls.troubled or not pairs or not self._ctx.link.up:
            await self._pause(left if not pairs and heard else min(left, _UNHEARD))
            return heard
        return await self._pulls.wait(pairs, left)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _hand_out(self, limit: int, skip: Collection[str]) -> list[Delivery]:
        self._check()
        chosen = await self._box.take(limit, skip)
        if self._closed:
            await self._handed.give_back([one.held(0.0) for one in chosen])
            self._check()
        lease = self._ctx.consumers.lease(self._queues)
        deliveries = [one.delivery(lease, self._ctx.link.generation) for one in chosen]
        self._handed.add(delivery.token for delivery in deliveries)
        return deliveries

    # State.

    def _check(self) -> None:
        self._ctx.check()
        if self._closed:
            raise ClosedError("this consumer has been closed; ask the backend for a new one")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._receiving:
            self._box.watched = True
            try:
                yield
            finally:
                self._box.watched = False
                self._box.look_after()
