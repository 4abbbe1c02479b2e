"""Queues that are served in the order they are listed, whatever the broker does between queues."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tranship.errors import TranshipError
from tranship.ports import Consumer, Delivery, Received, Settled, Settlement

__all__ = ["InOrder"]


class InOrder:
    """A consumer of several queues that brings nothing of one while one before it has a task.

    It looks into one queue after the other, and waits for all of them only when those looks found nothing.

    Args:
        consumer: of all the queues, where they take turns.
        queues: the same queues, the first to be served first.
    """

    def __init__(self, consumer: Consumer, queues: Sequence[str]) -> None:
        self._consumer = consumer
        # The last one needs no look: waiting finds what it has.
        self._looks = [(queue, frozenset(queues) - {queue}) for queue in queues[:-1]]

    @property
    def lease(self) -> float | None:
        """As the consumer's."""
        return self._consumer.lease

    @property
    def hard_limit(self) -> float | None:
        """As the consumer's."""
        return self._consumer.hard_limit

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Return deliveries of the first queue that has any."""
        for queue, others in self._looks:
            if queue in skip:
                continue
            received = await self._consumer.receive(limit, 0, skip=others)
            if received.deliveries:
                return received
        return await self._consumer.receive(limit, wait, skip=skip)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """As the consumer's."""
        await self._consumer.release(deliveries)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """As the consumer's."""
        return await self._consumer.extend(deliveries)

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """As the consumer's."""
        return await self._consumer.settle(settlements)

    async def aclose(self) -> None:
        """As the consumer's."""
        await self._consumer.aclose()
