"""What a consumer has taken and not handed out: in order, counted where nobody counted, given back in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Final

from tranship.errors import StorageFull, TranshipError
from tranship.ports import Delivery
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._copying import Copier
from tranship_rabbitmq._intake import delivery_of, recounted, token_of, uncounted
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq._settling import Settler
from tranship_rabbitmq._shelf import Shelf, is_suspect
from tranship_rabbitmq.amqp.channel import Arrived, Channel

__all__ = ["Inbox"]

log = logging.getLogger("tranship.rabbitmq")

_HOARD: Final = 1.0
"""Seconds that what nobody asks for is held: then others get it."""


class Inbox:
    """The shelf of one consumer, and what may not come to it yet.

    Args:
        ctx: of the backend.
        physicals: the queues, in the order to serve them.
        settler: gives back.

    Attributes:
        channel: what everything here came over.
        uncounted: delivered before, to somebody who is gone, and not counted: classic queues only say that much.
    """

    def __init__(self, ctx: Context, physicals: Sequence[Physical], settler: Settler) -> None:
        self._ctx = ctx
        self._settler = settler
        self._copier = Copier(settler)
        self.shelf = Shelf(physicals)
        self.channel: Channel | None = None
        self.uncounted: list[Delivery] = []
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, physical: Physical, arrived: Arrived) -> None:
        """Take in what arrived."""
        ctx, channel = self._ctx, self.channel
        if channel is None:
            return
        generation = ctx.back.generation
        delivery = delivery_of(channel, arrived, physical, tables=ctx.tables, names=ctx.names, generation=generation)
        if arrived.redelivered and ctx.options.queue_type == "classic":
            self.uncounted.append(delivery)
        else:
            self.shelf.put(physical.name, delivery)

    async def count(self) -> list[Physical]:
        """Put the delivery that nobody counted on the record: a copy with it goes to the queue, then the original.

        Cancelled, it goes on all the same: a copy without its original's end would be there twice.

        Returns:
            The queues that the copies are in.

        Raises:
            BrokerUnreachable, SubmitUnknown, EncodeError: what was not copied is still to be counted.
        """
        deliveries, self.uncounted = self.uncounted, []
        return await self._copier.run(self._count(deliveries))

    async def take(self, limit: int, skip: Collection[str]) -> list[Delivery]:
        """Take up to ``limit`` from the shelf. Whoever may be a killer takes no other that is held here along."""
        taken = self.shelf.take(limit, skip)
        if taken and is_suspect(taken[0]) and len(self.shelf):
            try:
                await self._copier.run(self._spare(self.shelf.clear()))
            except BaseException:
                self.shelf.put(token_of(taken[0]).physical.name, taken[0])
                raise
        return taken

    def hold(self) -> None:
        """Give back what is held unless somebody asks for it soon."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_HOARD, self._give_back)

    def keep(self) -> None:
        """Somebody asks for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def clear(self) -> None:
        """It is somebody else's: the channel that it came over has ended."""
        self.keep()
        self.shelf.clear()
        self.uncounted.clear()

    async def aclose(self) -> None:
        """Hand out nothing any more; what is being copied is copied first."""
        self.clear()
        await self._copier.aclose()

    async def _count(self, deliveries: Sequence[Delivery]) -> list[Physical]:
        try:
            await self._copier.copy(deliveries, recounted)
        except StorageFull:
            # A server that takes no copies is helped by consuming: they run with what is known.
            for one in self._left(deliveries):
                one.delivery_count += 1
                self.shelf.put(token_of(one).physical.name, one)
        except BaseException:
            self.uncounted += self._left(deliveries)
            raise
        return [token_of(one).physical for one in deliveries if token_of(one).settled]

    async def _spare(self, deliveries: Sequence[Delivery]) -> None:
        """Back to the queue, with nothing to be held against them: not as delivered before."""
        try:
            await self._copier.copy(deliveries, uncounted)
        except TranshipError as error:
            log.debug("what is held goes back as it is, and is counted: %s", error)
        finally:
            self._settler.give_back(self._left(deliveries))

    def _give_back(self) -> None:
        self._timer = None
        uncounted, self.uncounted = self.uncounted, []
        self._settler.give_back(uncounted)
        if held := self.shelf.clear():
            self._copier.start(self._spare(held))

    @staticmethod
    def _left(deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those that have not been settled; of a channel that has ended there are none."""
        return [one for one in deliveries if token_of(one).ours]
