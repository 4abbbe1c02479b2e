"""The end of deliveries: what belongs to it is stored in the same step, or before it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tranship.driver._dead import DeadLetters, dead_message
from tranship.driver._delay import DelayedRow, Delays
from tranship.driver._inflight import DeliveryToken, InFlightTable
from tranship.driver._nouns import End, Ending, Outgoing
from tranship.driver._protocols import Renewing, traits_of
from tranship.driver._results import DriverResults
from tranship.driver._rows import Rows
from tranship.driver._supervisor import Supervisor
from tranship.errors import InvalidOptionError, TranshipError
from tranship.ports import Settled, Settlement, Verdict

__all__ = ["Settling"]

Said = Settled | TranshipError


class Settling:
    """Settles and releases for all consumers of a backend, in the task of the caller.

    Args:
        supervisor: of the backend.
        rows: the table.
        results, delays: of the backend.
    """

    def __init__(self, supervisor: Supervisor, rows: Rows, results: DriverResults, delays: Delays) -> None:
        self._supervisor, self._rows, self._results, self._delays = supervisor, rows, results, delays

    @staticmethod
    def check(settlements: Sequence[Settlement]) -> None:
        """Refuse what nobody can carry out.

        Raises:
            InvalidOptionError: REPLACE without a replacement, or a replacement without REPLACE.
        """
        for one in settlements:
            if (one.verdict is Verdict.REPLACE) is (one.replacement is None):
                raise InvalidOptionError(f"{one.verdict} and replacement belong together; give both or neither")

    async def settle(self, in_flight: InFlightTable, settlements: Sequence[Settlement]) -> list[Settled]:
        """Carry out verdicts.

        Raises:
            TranshipError: of the first that was not done; the others are remembered, and say the same when they are
                settled again.
        """
        open_: dict[DeliveryToken, Settlement] = {}
        said: list[Said | DeliveryToken] = []
        for one in settlements:
            token: DeliveryToken = one.delivery.token
            if (told := in_flight.told(token)) is not None:
                said.append(told)
            elif token not in in_flight or token in open_:
                said.append(Settled.LOST)
            else:
                open_[token] = one
                said.append(token)
        answers = await self._carried_out(open_)
        in_flight.drop(token for token, answer in answers.items() if isinstance(answer, Settled))
        heard = [answers[one] if isinstance(one, DeliveryToken) else one for one in said]
        failed = next((one for one in heard if isinstance(one, TranshipError)), None)
        if failed is None:
            return [one for one in heard if isinstance(one, Settled)]
        for settlement, answer in zip(settlements, heard, strict=True):
            if isinstance(answer, Settled) and answer is not Settled.LOST:
                in_flight.remember(settlement.delivery.token, answer)
        raise failed

    async def _carried_out(self, settlements: Mapping[DeliveryToken, Settlement]) -> dict[DeliveryToken, Said]:
        delayed = {token: one for token, one in settlements.items() if token.delayed is not None}
        queued = {token: self._ending(one) for token, one in settlements.items() if token not in delayed}
        answers = {token: await self._end_delayed(token, one) for token, one in delayed.items()}
        if queued:
            fuses = traits_of(self._supervisor.current.queue).fuses
            answers |= await (self._end(queued) if fuses else self._end_apart(queued))
        done = [one for token, one in settlements.items() if answers[token] in (Settled.CONFIRMED, Settled.SENT)]
        self._results.announce([one.result.id for one in done if one.result is not None])
        return answers

    def _ending(self, settlement: Settlement) -> Ending:
        """Return the end of a delivery in terms of the primitives."""
        token: DeliveryToken = settlement.delivery.token
        rows, then = [], []
        connection = self._supervisor.current
        if settlement.result is not None:
            rows.append(self._results.row(settlement.result))
        if settlement.verdict is Verdict.REJECT and connection.table is not None:
            rows.append(DeadLetters.row(settlement, token.mark))
        elif settlement.verdict is Verdict.REJECT:
            then.append(dead_message(settlement))
        elif settlement.replacement is not None:
            outgoing = Outgoing.of(settlement.replacement)
            if outgoing.ready > time.time() and not traits_of(connection.queue).delays:
                rows.append(self._delays.row(outgoing, token.mark))
            else:
                then.append(outgoing)
        end = End.REQUEUE if settlement.verdict is Verdict.NACK else End.REMOVE
        return Ending(token.taken.token, end, rows, then)

    async def _end(self, endings: Mapping[DeliveryToken, Ending]) -> dict[DeliveryToken, Said]:
        for token in endings:
            token.unsure = True
        found = await self._supervisor.run("end", lambda c: c.queue.end(list(endings.values())))
        answers = dict(zip(endings, self._supervisor.answered("end", found, len(endings)), strict=True))
        for token in answers:
            token.unsure = False
        return answers

    async def _end_apart(self, endings: Mapping[DeliveryToken, Ending]) -> dict[DeliveryToken, Said]:
        """Make sure that it is ours, store what belongs to it, then end it; take back what a lost one had stored."""
        answers: dict[DeliveryToken, Said] = dict(await self._not_ours(endings))
        ours = {token: one for token, one in endings.items() if token not in answers}
        await self._rows.create([row for one in ours.values() for row in one.rows])
        answers |= await self._send(ours)
        unsure = {token for token in ours if token.unsure}
        bare = {token: Ending(one.token, one.end) for token, one in ours.items() if token not in answers}
        if bare:
            answers |= await self._end(bare)
        # Of one that was unsure the end before may have been done: what it stored belongs to it.
        lost = [one for token, one in ours.items() if answers[token] is Settled.LOST and token not in unsure]
        await self._rows.delete([row.key for one in lost for row in one.rows if not row.key.startswith("r/")])
        return answers

    async def _not_ours(self, endings: Mapping[DeliveryToken, Ending]) -> dict[DeliveryToken, Settled]:
        """Return those with something to store that somebody else has by now."""
        queue = self._supervisor.current.queue
        heavy = {token: one for token, one in endings.items() if one.rows or one.then}
        if not heavy or not isinstance(queue, Renewing):
            return {}
        ours = await self._supervisor.run("renew", lambda _: queue.renew([one.token for one in heavy.values()]))
        self._supervisor.answered("renew", ours, len(heavy))
        return {token: Settled.LOST for token, is_ours in zip(heavy, ours, strict=True) if not is_ours}

    async def _send(self, endings: Mapping[DeliveryToken, Ending]) -> dict[DeliveryToken, TranshipError]:
        """Send what replaces deliveries; return those of which it failed, which then are not ended."""
        pairs = [(token, message) for token, one in endings.items() for message in one.then]
        if not pairs:
            return {}
        answers = await self._supervisor.run("send", lambda c: c.queue.send([message for _, message in pairs]))
        self._supervisor.answered("send", answers, len(pairs))
        return {
            token: answer
            for (token, _), answer in zip(pairs, answers, strict=True)
            if isinstance(answer, TranshipError)
        }

    async def _end_delayed(self, token: DeliveryToken, settlement: Settlement) -> Said:
        """End what was taken out of the table before it was due."""
        assert token.delayed is not None
        if not await self._delays.renew(token.delayed, _MOVING):
            return Settled.LOST
        if settlement.verdict is Verdict.NACK:
            await self._delays.forward([token.delayed])
            return Settled.CONFIRMED
        ending = self._ending(settlement)
        await self._rows.create(ending.rows)
        failed = await self._send({token: ending})
        if failed:
            return failed[token]
        (removed,) = await self._delays.remove([token.delayed])
        return Settled.CONFIRMED if removed else Settled.LOST

    async def release(self, tokens: Sequence[DeliveryToken]) -> None:
        """Give back what nobody has touched, not counted."""
        delayed: list[DelayedRow] = [one.delayed for one in tokens if one.delayed is not None]
        await self._delays.forward(delayed)
        endings = [Ending(one.taken.token, End.RELEASE) for one in tokens if one.delayed is None]
        if endings:
            found = await self._supervisor.run("end", lambda c: c.queue.end(endings))
            self._supervisor.answered("end", found, len(endings))


_MOVING = 30.0
