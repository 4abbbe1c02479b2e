"""What a consumer has taken and not handed out: in order, counted where nobody counted, given back in time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from tranship.errors import StorageFull
from tranship.ports import Delivery
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._intake import delivery_of, recounted, token_of
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq._settling import Settler
from tranship_rabbitmq._shelf import Shelf
from tranship_rabbitmq.amqp.channel import Arrived, Channel

__all__ = ["Inbox"]

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
        suspects: delivered before, to somebody who is gone, and not counted: classic queues only say that much.
    """

    def __init__(self, ctx: Context, physicals: Sequence[Physical], settler: Settler) -> None:
        self._ctx = ctx
        self._settler = settler
        self.shelf = Shelf(physicals)
        self.channel: Channel | None = None
        self.suspects: list[Delivery] = []
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, physical: Physical, arrived: Arrived) -> None:
        """Take in what arrived."""
        ctx, channel = self._ctx, self.channel
        if channel is None:
            return
        generation = ctx.back.generation
        delivery = delivery_of(channel, arrived, physical, tables=ctx.tables, names=ctx.names, generation=generation)
        if arrived.redelivered and ctx.options.queue_type == "classic":
            self.suspects.append(delivery)
        else:
            self.shelf.put(physical.name, delivery)

    async def count(self) -> list[Physical]:
        """Put the delivery that nobody counted on the record: a copy with it goes to the queue, then the original.

        Returns:
            The queues that the copies are in.

        Raises:
            BrokerUnreachable, SubmitUnknown, EncodeError: nothing has been dropped.
        """
        suspects, self.suspects = self.suspects, []
        try:
            await asyncio.gather(*(self._settler.copy(one, recounted(one)) for one in suspects))
        except StorageFull:
            # A server that takes no copies is helped by consuming: they run with what is known.
            for one in suspects:
                one.delivery_count += 1
                self.shelf.put(token_of(one).physical.name, one)
            return []
        except BaseException:
            self.suspects += suspects
            raise
        for one in suspects:
            self._settler.drop(one)
        return [token_of(one).physical for one in suspects]

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
        self.suspects.clear()

    def _give_back(self) -> None:
        self._timer = None
        suspects, self.suspects = self.suspects, []
        self._settler.give_back([*self.shelf.clear(), *suspects])
