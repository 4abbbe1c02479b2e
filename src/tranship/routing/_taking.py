"""Looking at several brokers at once, and waiting at all of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from tranship.ports import Delivery, Received
from tranship.routing._fleet import Fleet
from tranship.routing._merging import Part, hungry, merge
from tranship.routing._placements import Placements, task_id_of
from tranship.routing._seat import Seat
from tranship.routing._seats import Seats

__all__ = ["Taking"]

LOOK: Final = 1.0
"""Seconds that a look at what there is may take: a broker that takes longer has failed."""
LEAVING: Final = 0.05
"""Seconds that a call which was taken back gets to end before others go on without its broker."""
ROUNDS: Final = 4
"""How often brokers are asked for more of their best before what has come is delivered."""

Call = asyncio.Task[Received]


class Taking:
    """One consumer's way to its brokers. What was taken and is not returned is given back, also when cancelled.

    Args:
        fleet: the brokers.
        seats: the consumer at each.
        placements: told which broker a task came from.
        strict: whether levels are strict over all brokers.
    """

    def __init__(self, fleet: Fleet, seats: Seats, placements: Placements, *, strict: bool) -> None:
        self._fleet = fleet
        self._seats = seats
        self._placements = placements
        self._strict = strict
        self._turn = -1
        self._served: dict[str, int] = {}
        """When each queue was last served, counted in turns."""
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Whoever waits returns."""
        self._stopping.set()

    async def look(self, limit: int, skip: Collection[str]) -> tuple[list[Delivery], bool]:
        """Take what is there now; and say whether anybody answered."""
        await self._until_left()
        asked, seats = time.monotonic(), self._in_turn()
        if self._strict:
            parts = await self._ask(_shares(seats, limit), skip)
            await self._deepen(parts, skip)
        else:
            parts = await self._first(seats, limit, skip)
        return await self._deliver(parts, limit, asked), bool(parts)

    async def wait(self, limit: int, seconds: float, skip: Collection[str]) -> list[Delivery]:
        """Wait until some broker brings something, one comes or goes, or the time is over."""
        asked = time.monotonic()
        calls = {seat.ask(limit, seconds, skip): seat for seat in self._seats.ready()}
        if self._seats.leaving:
            # Who is not asked this time is asked soon.
            seconds = min(seconds, LEAVING)
        done = await self._until_one(calls, seconds)
        parts = [
            Part(calls[call], list(received.deliveries), limit)
            for call in done
            if (received := calls[call].answer(call)) is not None and received.deliveries
        ]
        return await self._deliver(parts, limit, asked)

    # Steps.

    def _in_turn(self) -> list[Seat]:
        seats = self._seats.ready()
        self._turn += 1
        start = self._turn % len(seats) if seats else 0
        return seats[start:] + seats[:start]

    async def _until_left(self) -> None:
        leaving = self._seats.leaving
        if leaving:
            await asyncio.wait(leaving, timeout=LEAVING)

    async def _first(self, seats: Sequence[Seat], limit: int, skip: Collection[str]) -> list[Part]:
        """Whichever has something: nothing that was counted as delivered is given back."""
        parts: list[Part] = []
        for seat in seats:
            parts += await self._ask([(seat, limit)], skip)
            if parts and parts[-1].deliveries:
                break
        return parts

    async def _ask(self, wanted: Sequence[tuple[Seat, int]], skip: Collection[str]) -> list[Part]:
        calls = {seat.ask(count, 0.0, skip): (seat, count) for seat, count in wanted}
        if not calls:
            return []
        try:
            await asyncio.wait(calls, timeout=min(LOOK, self._fleet.options.answer_timeout))
        except asyncio.CancelledError:
            for call, (seat, _) in calls.items():
                seat.leave(call)
            raise
        parts = []
        for call, (seat, count) in calls.items():
            if not call.done():
                seat.leave(call)
                seat.member.failed(seat.member.silent(), seat.backend)
            elif (received := seat.answer(call)) is not None:
                seat.had = bool(received.deliveries)
                parts.append(Part(seat, list(received.deliveries), count))
        return parts

    async def _deepen(self, parts: Sequence[Part], skip: Collection[str]) -> None:
        """Ask those for more that may have better ones than what others brought."""
        for _ in range(ROUNDS):
            wanted = hungry(parts)
            if not wanted:
                return
            try:
                more = await self._ask([(part.seat, count) for part, count in wanted], skip)
            except asyncio.CancelledError:
                for part in parts:
                    part.seat.give_back(part.deliveries)
                raise
            by_seat = {part.seat: part.deliveries for part in more}
            for part, count in wanted:
                part.deliveries += by_seat.get(part.seat, ())
                part.asked += count

    async def _until_one(self, calls: Mapping[Call, Seat], seconds: float) -> list[Call]:
        """Wait for the first; take the others back, and return those that have ended by themselves."""
        news, stop = self._fleet.news(), asyncio.ensure_future(self._stopping.wait())
        first: set[asyncio.Future[Any]] = {*calls, news, stop}
        try:
            await asyncio.wait(first, timeout=seconds + LOOK, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            for call, seat in calls.items():
                seat.leave(call)
            raise
        finally:
            news.cancel()
            stop.cancel()
        done = [call for call in calls if call.done()]
        for call, seat in calls.items():
            if not call.done():
                seat.leave(call)
        return done

    async def _deliver(self, parts: Sequence[Part], limit: int, asked: float) -> list[Delivery]:
        """Give back what is too much, and return the rest: nothing is held that nobody has."""
        wanted, surplus = merge(parts, limit, self._served)
        backs = [seat.give_back(deliveries) for seat, deliveries in _by_seat(surplus).items()]
        if backs:
            try:
                await asyncio.wait(backs, timeout=LOOK)
            except asyncio.CancelledError:
                for seat, deliveries in _by_seat(wanted).items():
                    seat.give_back(deliveries)
                raise
        for part, delivery in wanted:
            self._served[delivery.queue] = self._turn
            if (task_id := task_id_of(delivery)) is not None:
                # Where its result belongs.
                self._placements.add([task_id], part.seat.member)
        return [part.seat.deliver(delivery, asked) for part, delivery in wanted]


def _by_seat(deliveries: Sequence[tuple[Part, Delivery]]) -> dict[Seat, list[Delivery]]:
    groups: dict[Seat, list[Delivery]] = {}
    for part, delivery in deliveries:
        groups.setdefault(part.seat, []).append(delivery)
    return groups


def _shares(seats: Sequence[Seat], limit: int) -> list[tuple[Seat, int]]:
    """How much to ask each for: those that had something last time share the limit."""
    had = sum(seat.had for seat in seats) or len(seats)
    return [(seat, math.ceil(limit / had)) for seat in seats]
