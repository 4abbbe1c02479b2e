"""Settling deliveries of several brokers, so that one that is away does not hold up the others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tranship.errors import BrokerUnreachable, TranshipError
from tranship.ports import Settled, Settlement
from tranship.routing._fleet import Fleet
from tranship.routing._seat import Held, Seat

__all__ = ["RoutedSettling"]

Call = asyncio.Task[Sequence[Settled]]
Answers = dict[Settlement, Settled]


class RoutedSettling:
    """Settles for one consumer.

    Args:
        fleet: the brokers.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._later: set[asyncio.Task[None]] = set()

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        """Settle each at its broker.

        Raises:
            TranshipError: what one of them said, if it is no outage, or if no other broker is there. What the
                others answered is kept, and said again when the batch is.
        """
        answers, groups = _sorted(settlements)
        calls = {seat: self._begin(seat, group) for seat, group in groups.items()}
        if calls:
            await asyncio.wait(calls.values(), timeout=self._fleet.options.answer_timeout)
        failed: dict[Seat, TranshipError] = {}
        for seat, call in calls.items():
            error = _error(seat, call)
            if error is None:
                answers.update(zip(groups[seat], call.result(), strict=True))
            else:
                failed[seat] = error
        if not all(self._may_wait(error, failed) for error in failed.values()):
            _keep(answers)
            raise next(iter(failed.values()))
        for seat, error in failed.items():
            self._settle_later(seat, groups[seat], calls[seat], error)
            answers.update(dict.fromkeys(groups[seat], Settled.SENT))
        return [answers[one] for one in settlements]

    async def aclose(self) -> None:
        """Give what is still to be settled a last chance."""
        if self._later:
            await asyncio.wait(set(self._later), timeout=self._fleet.options.answer_timeout)
        for task in self._later:
            task.cancel()

    def _begin(self, seat: Seat, group: Sequence[Settlement]) -> Call:
        return self._fleet.background.start(seat.settle([_own(one) for one in group]))

    def _may_wait(self, error: TranshipError, failed: Mapping[Seat, TranshipError]) -> bool:
        away = {seat.member for seat in failed}
        return error.retryable and any(one.usable for one in self._fleet.members if one not in away)

    def _settle_later(self, seat: Seat, group: Sequence[Settlement], call: Call, error: TranshipError) -> None:
        later = self._fleet.background.start(seat.settle_later([_own(one) for one in group], call, error))
        self._later.add(later)
        later.add_done_callback(self._later.discard)


def _sorted(settlements: Sequence[Settlement]) -> tuple[Answers, dict[Seat, list[Settlement]]]:
    """What is answered already, and the rest by seat."""
    answers: Answers = {}
    groups: dict[Seat, list[Settlement]] = {}
    for one in settlements:
        held: Held = one.delivery.token
        if held.settled is not None:
            answers[one], held.settled = held.settled, None
        else:
            groups.setdefault(held.seat, []).append(one)
    return answers, groups


def _own(one: Settlement) -> Settlement:
    return replace(one, delivery=one.delivery.token.delivery)


def _error(seat: Seat, call: Call) -> TranshipError | None:
    """Why a call has not settled, noted with its broker."""
    if not call.done():
        error: TranshipError = seat.member.silent()
    elif call.cancelled():
        return BrokerUnreachable(f"settling at {seat.member.url} was stopped")
    else:
        found = call.exception()
        if found is None:
            seat.member.breaker.worked()
            return None
        if not isinstance(found, TranshipError):
            raise found
        error = found
    seat.member.failed(error, seat.backend)
    return error


def _keep(answers: Answers) -> None:
    for one, answer in answers.items():
        held: Held = one.delivery.token
        held.settled = answer
