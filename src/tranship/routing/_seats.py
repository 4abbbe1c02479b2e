"""The seats of one consumer: one at each broker, a new one where a broker's backend is new."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tranship.errors import TranshipError
from tranship.routing._fleet import Fleet
from tranship.routing._member import Member
from tranship.routing._seat import Seat

__all__ = ["Seats"]


class Seats:
    """Mutable state: the seat at each broker.

    Args:
        fleet: the brokers.
        queues: what is consumed.
    """

    def __init__(self, fleet: Fleet, queues: Sequence[str]) -> None:
        self._fleet = fleet
        self._queues = queues
        self._seats: dict[Member, Seat] = {}
        for one in fleet.members:
            if one.opened:
                self._at(one)

    @property
    def lease(self) -> float | None:
        """The shortest, of brokers that are away as well; None: none of them ends by itself.

        Whoever renews asks once, and a broker may come later.
        """
        seated = [one.lease for one in self._seats.values()]
        away = [one.lease for one in self._fleet.members if one not in self._seats]
        return min((one for one in (*seated, *away) if one is not None), default=None)

    @property
    def hard_limit(self) -> float | None:
        """The shortest; None: there is none."""
        limits = [one.consumer.hard_limit for one in self._seats.values()]
        return min((one for one in limits if one is not None), default=None)

    @property
    def leaving(self) -> set[asyncio.Task[object]]:
        """Calls that were taken back and have not ended."""
        return {call for seat in self._seats.values() for call in seat.leaving}

    def ready(self) -> list[Seat]:
        """Those that may be asked, in the order of the brokers."""
        found = [self._at(one) for one in self._fleet.members if one.usable]
        return [seat for seat in found if seat is not None and seat.ready]

    def _at(self, member: Member) -> Seat | None:
        seat = self._seats.get(member)
        if seat is not None and seat.backend is member.backend:
            return seat
        try:
            # What the former one still holds went with its backend.
            self._seats[member] = Seat(self._fleet, member, self._queues)
        except TranshipError as error:
            member.failed(error)
            return None
        return self._seats[member]

    async def aclose(self) -> None:
        """Close all."""
        await asyncio.gather(*(seat.aclose() for seat in self._seats.values()))
