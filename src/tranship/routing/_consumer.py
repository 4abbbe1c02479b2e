"""Taking from several brokers at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence

from tranship.checks import whole
from tranship.errors import ClosedError, TranshipError
from tranship.guards import OneReceiver
from tranship.ports import Delivery, Received, Settled, Settlement
from tranship.routing._fleet import Fleet
from tranship.routing._placements import Placements
from tranship.routing._seat import Held, Seat
from tranship.routing._seats import Seats
from tranship.routing._settling import RoutedSettling
from tranship.routing._taking import Taking

__all__ = ["RoutedConsumer"]


class RoutedConsumer:
    """Takes messages from every broker; see :class:`tranship.ports.Consumer`.

    All brokers are looked at. Where they count deliveries exactly, the best of all are delivered and the rest is
    given back, so that levels are strict over all brokers; else whichever has something is served, in turn. With
    nothing there, it waits at all of them.

    Args:
        fleet: the brokers.
        placements: told which broker a task came from.
        queues: names, in no order.
        strict: whether levels are strict over all brokers.
        on_close: called with the consumer when it has been closed.
    """

    def __init__(
        self,
        fleet: Fleet,
        placements: Placements,
        queues: Sequence[str],
        *,
        strict: bool,
        on_close: Callable[[RoutedConsumer], None],
    ) -> None:
        self._on_close = on_close
        self._fleet = fleet
        self._seats = Seats(fleet, list(dict.fromkeys(queues)))
        self._taking = Taking(fleet, self._seats, placements, strict=strict)
        self._settling = RoutedSettling(fleet)
        self._alone = OneReceiver()
        self._closed = False

    @property
    def lease(self) -> float | None:
        """The shortest of all brokers', also of those that are away; None: all deliveries live as long as their
        connection.
        """
        return self._seats.lease

    @property
    def hard_limit(self) -> float | None:
        """The shortest of all brokers'."""
        return self._seats.hard_limit

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Take what is ready at any broker, or wait for it at all.

        Raises:
            BrokerUnreachable: no broker can be used, and none has come back meanwhile.
        """
        whole("limit", limit)
        self._check()
        with self._alone:
            end = time.monotonic() + wait
            while True:
                deliveries, heard = await self._taking.look(limit, skip)
                self._check()
                left = end - time.monotonic()
                if not deliveries and left > 0:
                    deliveries = await self._taking.wait(limit, left, skip)
                    self._check()
                if deliveries:
                    return Received(deliveries)
                if time.monotonic() >= end:
                    return self._empty(heard)

    def _empty(self, heard: bool) -> Received:
        if not heard and not self._fleet.usable():
            raise self._fleet.nobody("receiving")
        return Received((), confirmed=heard)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries back to their brokers."""
        self._check()
        groups = _by_seat(deliveries)
        answers = await asyncio.gather(*(seat.release(held) for seat, held in groups.items()), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Renew leases, each at its broker; one that is away does not keep the others' from being renewed."""
        self._check()
        groups = _by_seat(deliveries)
        answers = await asyncio.gather(*(seat.extend(held) for seat, held in groups.items()))
        ours: dict[Held, bool] = {}
        for held, answer in zip(groups.values(), answers, strict=True):
            ours.update(zip(held, answer, strict=True))
        return [ours[one.token] for one in deliveries]

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """Settle each at its broker. While one is away and another is there, what belongs to the one is settled
        once it is back, and SENT until then.
        """
        self._check()
        return await self._settling.settle(settlements)

    async def aclose(self) -> None:
        """Give back what has not been settled, everywhere. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._taking.stop()
        await self._settling.aclose()
        await self._seats.aclose()
        self._on_close(self)

    def _check(self) -> None:
        self._fleet.check()
        if self._closed:
            raise ClosedError("this consumer has been closed; ask the backend for a new one")


def _by_seat(deliveries: Sequence[Delivery]) -> dict[Seat, list[Held]]:
    groups: dict[Seat, list[Held]] = {}
    for one in deliveries:
        held: Held = one.token
        groups.setdefault(held.seat, []).append(held)
    return groups
