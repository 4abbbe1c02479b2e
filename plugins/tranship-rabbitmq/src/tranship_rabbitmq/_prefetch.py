"""What a consumer has prefetched: in order, counted where nobody counted, given back in time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from tranship.envelope import Priority
from tranship.errors import StorageFull, TranshipError
from tranship.ports import Delivery
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._delivery import delivery_of, recounted, token_of, uncounted
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq._republishing import Republisher
from tranship_rabbitmq._settling import Settler
from tranship_rabbitmq.amqp.channel import Arrived, Channel

__all__ = ["Prefetch", "PrefetchBuffer"]

log = logging.getLogger("tranship.rabbitmq")

_HOARD: Final = 1.0
"""Seconds that what nobody asks for is held: then others get it."""
_ALONE: Final = 3
"""Delivered this often, a message may be what kills its workers: it takes nobody along."""


def is_suspect(delivery: Delivery) -> bool:
    """Whether it was delivered so often that it may be what kills its workers."""
    return delivery.delivery_count >= _ALONE


class PrefetchBuffer:
    """Deliveries that have been taken and not handed out, by the queue on the server they are from.

    They are served strictly by level, and queues in turn inside a level.

    Args:
        physicals: the queues, in the order to serve them.
    """

    def __init__(self, physicals: Sequence[Physical]) -> None:
        self._decks: dict[str, deque[Delivery]] = {one.name: deque() for one in physicals}
        self._levels: dict[Priority, deque[Physical]] = {}
        for one in physicals:
            self._levels.setdefault(one.priority, deque()).append(one)

    def __len__(self) -> int:
        return sum(map(len, self._decks.values()))

    def put(self, name: str, delivery: Delivery) -> None:
        """Add a delivery behind the others of its queue."""
        self._decks[name].append(delivery)

    def held(self, name: str) -> int:
        """How many there are from one queue."""
        return len(self._decks[name])

    def levels(self, skip: Collection[str]) -> Iterator[list[Physical]]:
        """The queues of each level in the order to serve them, the one whose turn it is first."""
        for queues in self._levels.values():
            wanted = [one for one in queues if one.queue not in skip]
            if wanted:
                yield wanted

    def take(self, limit: int, skip: Collection[str]) -> list[Delivery]:
        """Take up to ``limit``; one that was delivered often travels alone."""
        taken: list[Delivery] = []
        for queues in self._levels.values():
            while len(taken) < limit and (deck := self._next(queues, skip)):
                delivery = deck[0]
                if is_suspect(delivery):
                    return taken or [deck.popleft()]
                taken.append(deck.popleft())
        return taken

    def clear(self) -> list[Delivery]:
        """Take everything."""
        all_of_it = [delivery for deck in self._decks.values() for delivery in deck]
        for deck in self._decks.values():
            deck.clear()
        return all_of_it

    def _next(self, queues: deque[Physical], skip: Collection[str]) -> deque[Delivery] | None:
        for _ in range(len(queues)):
            one = queues[0]
            queues.rotate(-1)
            if one.queue not in skip and self._decks[one.name]:
                return self._decks[one.name]
        return None


class Prefetch:
    """The buffer of one consumer, and what may not come to it yet.

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
        self._republisher = Republisher(settler)
        self.buffer = PrefetchBuffer(physicals)
        self.channel: Channel | None = None
        self.uncounted: list[Delivery] = []
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, physical: Physical, arrived: Arrived) -> None:
        """Take in what arrived."""
        ctx, channel = self._ctx, self.channel
        if channel is None:
            return
        generation = ctx.consuming.generation
        delivery = delivery_of(channel, arrived, physical, tables=ctx.tables, names=ctx.names, generation=generation)
        if arrived.redelivered and ctx.options.queue_type == "classic":
            self.uncounted.append(delivery)
        else:
            self.buffer.put(physical.name, delivery)

    async def count(self) -> list[Physical]:
        """Put the delivery that nobody counted on the record: a copy with it goes to the queue, then the original.

        Cancelled, it goes on all the same: a copy without its original's end would be there twice.

        Returns:
            The queues that the copies are in.

        Raises:
            BrokerUnreachable, SubmitUnknown, EncodeError: what was not copied is still to be counted.
        """
        deliveries, self.uncounted = self.uncounted, []
        return await self._republisher.run(self._count(deliveries))

    async def take(self, limit: int, skip: Collection[str]) -> list[Delivery]:
        """Take up to ``limit`` from the buffer. Whoever may be a killer takes no other that is held here along."""
        taken = self.buffer.take(limit, skip)
        if taken and is_suspect(taken[0]) and len(self.buffer):
            try:
                await self._republisher.run(self._spare(self.buffer.clear()))
            except BaseException:
                self.buffer.put(token_of(taken[0]).physical.name, taken[0])
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
        self.buffer.clear()
        self.uncounted.clear()

    async def aclose(self) -> None:
        """Hand out nothing any more; what is being copied is copied first."""
        self.clear()
        await self._republisher.aclose()

    async def _count(self, deliveries: Sequence[Delivery]) -> list[Physical]:
        try:
            await self._republisher.copy(deliveries, recounted)
        except StorageFull:
            # A server that takes no copies is helped by consuming: they run with what is known.
            for one in self._left(deliveries):
                one.delivery_count += 1
                self.buffer.put(token_of(one).physical.name, one)
        except BaseException:
            self.uncounted += self._left(deliveries)
            raise
        return [token_of(one).physical for one in deliveries if token_of(one).settled]

    async def _spare(self, deliveries: Sequence[Delivery]) -> None:
        """Back to the queue, with nothing to be held against them: not as delivered before."""
        try:
            await self._republisher.copy(deliveries, uncounted)
        except TranshipError as error:
            log.debug("what is held goes back as it is, and is counted: %s", error)
        finally:
            self._settler.give_back(self._left(deliveries))

    def _give_back(self) -> None:
        self._timer = None
        uncounted, self.uncounted = self.uncounted, []
        self._settler.give_back(uncounted)
        if held := self.buffer.clear():
            self._republisher.start(self._spare(held))

    @staticmethod
    def _left(deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those that have not been settled; of a channel that has ended there are none."""
        return [one for one in deliveries if token_of(one).ours]
