"""Settling deliveries of several brokers, so that one that is away does not hold up the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from tranship.errors import BrokerUnreachable, TranshipError
from tranship.ports import Settled, Settlement
from tranship.routing._fleet import Fleet
from tranship.routing._seat import Held, Seat, Settling

__all__ = ["RoutedSettling"]

Answers = dict[Settlement, Settled | TranshipError]


class RoutedSettling:
    """Settles for one consumer.

    Args:
        fleet: the brokers.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._later: set[asyncio.Task[None]] = set()

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """Settle each at its broker. What belongs to one that is away is settled later, if another one is there."""
        groups: dict[Seat, list[Settlement]] = {}
        for one in settlements:
            held: Held = one.delivery.token
            groups.setdefault(held.seat, []).append(one)
        calls = {seat: self._begin(seat, group) for seat, group in groups.items()}
        if calls:
            await asyncio.wait(calls.values(), timeout=self._fleet.options.answer_timeout)
        answers: Answers = {}
        for seat, call in calls.items():
            answers.update(zip(groups[seat], _said(seat, call, len(groups[seat])), strict=True))
        away = {seat.member for seat, group in groups.items() if any(_may_wait(answers[one]) for one in group)}
        if any(one.usable for one in self._fleet.members if one not in away):
            for seat, group in groups.items():
                answers.update(self._settle_later(seat, calls[seat], group, answers))
        return [answers[one] for one in settlements]

    async def aclose(self) -> None:
        """Give what is still to be settled a last chance."""
        if self._later:
            await asyncio.wait(set(self._later), timeout=self._fleet.options.answer_timeout)
        for task in self._later:
            task.cancel()

    def _begin(self, seat: Seat, group: Sequence[Settlement]) -> Settling:
        return self._fleet.background.start(seat.settle([_own(one) for one in group]))

    def _settle_later(self, seat: Seat, call: Settling, group: Sequence[Settlement], answers: Answers) -> Answers:
        """See to what its broker did not take, and say that it is sent."""
        left = [one for one in group if _may_wait(answers[one])]
        if not left:
            return {}
        error = answers[left[0]]
        assert isinstance(error, TranshipError)
        under_way = None if call.done() else call
        later = self._fleet.background.start(seat.settle_later([_own(one) for one in left], under_way, error))
        self._later.add(later)
        later.add_done_callback(self._later.discard)
        return dict.fromkeys(left, Settled.SENT)


def _own(one: Settlement) -> Settlement:
    return replace(one, delivery=one.delivery.token.delivery)


def _may_wait(answer: Settled | TranshipError) -> bool:
    return isinstance(answer, TranshipError) and answer.retryable


def _said(seat: Seat, call: Settling, count: int) -> Sequence[Settled | TranshipError]:
    """Return what a broker said, and note whether it works."""
    if not call.done():
        silent = seat.member.silent()
        seat.member.failed(silent, seat.backend)
        return [silent] * count
    if call.cancelled():
        return [BrokerUnreachable(f"settling at {seat.member.url} was stopped")] * count
    answers = call.result()
    errors = [one for one in answers if isinstance(one, TranshipError)]
    if errors:
        seat.member.failed(errors[0], seat.backend)
    else:
        seat.member.breaker.worked()
    return answers
