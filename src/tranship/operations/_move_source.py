"""The source's side of a move: taking messages, and keeping their leases while the target decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from tranship.errors import BrokerUnreachable, TranshipError
from tranship.operations._move_item import Item, item_of
from tranship.operations._move_patience import Patience, Stop
from tranship.ports import Backend, Capability, Consumer, EarlyConsumer, Received

__all__ = ["BATCH", "Source"]

log = logging.getLogger("tranship.move")

BATCH: Final = 500
"""Messages that travel together."""
LOOK: Final = 0.5
"""Seconds a look for more may take at the end."""
SILENCE: Final = 20.0
"""Seconds in which a receive has to come back."""


class Source:
    """Takes messages from the source; one caller of :meth:`take` at a time.

    Args:
        backend: opened.
        queues: names.
        patience: with the source.
        stop: of the move.
        delayed: take what is not due yet, too.
        linger: seconds to wait at the end for messages that others hold; None: one lease.
    """

    def __init__(
        self,
        backend: Backend,
        queues: Sequence[str],
        *,
        patience: Patience,
        stop: Stop,
        delayed: bool,
        linger: float | None,
    ) -> None:
        self.backend = backend
        self.consumer: Consumer = backend.consumer(queues)
        self.held: dict[Item, None] = {}
        """What is ours, until it is settled or given back."""
        self._queues = frozenset(queues)
        self.patience = patience
        self._stop = stop
        self._early = self.consumer if delayed and isinstance(self.consumer, EarlyConsumer) else None
        lease = self.consumer.lease or 0.0
        self._linger = lease + 1.0 if linger is None and lease else linger or 0.0
        self._idle_since: float | None = None

    async def take(self, limit: int) -> list[Item]:
        """Return up to ``limit`` messages; none: there are no more, or the move was asked to stop.

        Raises:
            GaveUp: the source was away for too long, or refuses us.
        """
        wait = 0.0
        while not self._stop.requested:
            received = await self.patience.insist(partial(self._receive, limit, wait))
            early = False
            if not received.deliveries and received.confirmed and self._early is not None:
                received, early = await self.patience.insist(lambda: self._receive_early(limit)), True
            if received.deliveries:
                self._idle_since = None
                return self._hold(received, early=early)
            if received.confirmed and not await self._expects_more():
                return []
            wait = LOOK
        return []

    async def keep(self) -> None:
        """Renew the leases of what is held, three times per lease; runs until cancelled."""
        lease = self.consumer.lease
        while lease is not None:
            await asyncio.sleep(lease / 3)
            held = list(self.held)
            for start in range(0, len(held), BATCH):
                await self._renew(held[start : start + BATCH], lease / 3)

    async def _renew(self, items: Sequence[Item], within: float) -> None:
        try:
            async with asyncio.timeout(within):
                answers = await self.consumer.extend([item.delivery for item in items])
        except (TranshipError, TimeoutError) as error:
            log.warning("renewing %d leases at the source failed: %s", len(items), error or "no answer in time")
            return
        for item, ours in zip(items, answers, strict=True):
            if not ours:
                # Not submitted any more, if it has not been yet: somebody else runs it.
                item.lost = True

    async def _receive(self, limit: int, wait: float) -> Received:
        try:
            async with asyncio.timeout(wait + SILENCE):
                return await self.consumer.receive(limit, wait)
        except TimeoutError as error:
            raise BrokerUnreachable(f"receiving has not come back for {wait + SILENCE:g} s") from error

    async def _receive_early(self, limit: int) -> Received:
        assert self._early is not None
        return await self._early.receive_early(limit)

    def _hold(self, received: Received, *, early: bool) -> list[Item]:
        items = [item_of(delivery, early=early) for delivery in received.deliveries]
        self.held.update(dict.fromkeys(items))
        return items

    async def _expects_more(self) -> bool:
        """Whether there are messages that may still come: a killed move's do within one lease, and so do those that
        a server has not sorted out yet which has just come back.
        """
        now = asyncio.get_running_loop().time()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since >= self._linger or not self._tells_in_flight():
            return False
        infos = await self.patience.insist(self.backend.inspector().queues)
        there = sum(sum(one.ready.values()) + (one.in_flight or 0) for one in infos if one.name in self._queues)
        return there > len(self.held)

    def _tells_in_flight(self) -> bool:
        return self.backend.capabilities.has(Capability.INSPECT_IN_FLIGHT)
