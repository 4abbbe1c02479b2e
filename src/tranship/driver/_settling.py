"""The end of deliveries: what belongs to it is stored in the same step, or before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tranship.driver._dead import DeadLetters
from tranship.driver._dead_queues import dead_message
from tranship.driver._delay import DelayedRow, Delays
from tranship.driver._nouns import End, Ending, Outgoing, Taken
from tranship.driver._outcomes import Outcomes
from tranship.driver._queue import Renewing
from tranship.driver._rows import Rows
from tranship.driver._supervisor import OF_ALL, Supervisor
from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.ports import Delivery, Settled, Settlement, Verdict

__all__ = ["Settling"]

Said = Settled | TranshipError
MOVING: Final = 30.0
"""Seconds for which a message that was taken out of the table is kept from other forwarders while it ends."""


class Settling:
    """Settles and releases for all consumers of a backend, in the task of the caller.

    Args:
        supervisor: of the backend.
        rows: the table.
        outcomes, delays: of the backend.
    """

    def __init__(self, supervisor: Supervisor, rows: Rows, outcomes: Outcomes, delays: Delays) -> None:
        self._supervisor, self._rows, self._outcomes, self._delays = supervisor, rows, outcomes, delays

    async def settle(self, in_flight: dict[Delivery, Taken], settlements: Sequence[Settlement]) -> list[Said]:
        """Carry out verdicts, and say of each what became of it."""
        if not self._outcomes.are_rows:
            await self._outcomes.keep([one.result for one in settlements if one.result is not None])
        open_: dict[Taken, Settlement] = {}
        said: list[Said | Taken] = []
        for one in settlements:
            taken = in_flight.get(one.delivery)
            if taken is None or taken in open_:
                said.append(Settled.LOST)
            elif (one.verdict is Verdict.REPLACE or one.replacement is not None) and one.problem is not None:
                said.append(one.problem)
            else:
                open_[taken] = one
                said.append(taken)
        answers = await self._carried_out(open_)
        for taken, answer in answers.items():
            if isinstance(answer, Settled):
                in_flight.pop(taken, None)
        return [answers[one] if isinstance(one, Taken) else one for one in said]

    async def _carried_out(self, settlements: Mapping[Taken, Settlement]) -> dict[Taken, Said]:
        answers: dict[Taken, Said] = {}
        queued: dict[Taken, Ending] = {}
        for taken, one in settlements.items():
            if isinstance(taken.token, DelayedRow):
                answers[taken] = await self._end_delayed(taken, taken.token, one)
            else:
                queued[taken] = self._ending(taken, one)
        if queued:
            answers |= await self._ended(queued)
        if not self._supervisor.traits.tells and self._outcomes.are_rows:
            done = [one for taken, one in settlements.items() if answers[taken] in (Settled.CONFIRMED, Settled.SENT)]
            self._outcomes.announce([self._outcomes.row(one.result) for one in done if one.result is not None])
        return answers

    async def _ended(self, endings: Mapping[Taken, Ending]) -> dict[Taken, Said]:
        """End deliveries, each alone where all are refused for the fault of one."""
        try:
            return await (self._end(endings) if self._supervisor.traits.fuses else self._end_apart(endings))
        except ClosedError:
            raise
        except TranshipError as error:
            if len(endings) == 1 or isinstance(error, OF_ALL):
                return dict.fromkeys(endings, error)
        return {one: answer for one in endings for answer in (await self._ended({one: endings[one]})).values()}

    def _ending(self, taken: Taken, settlement: Settlement) -> Ending:
        """Return the end of a delivery in terms of the primitives."""
        verdict = settlement.verdict
        ending = Ending(taken.token, End.REQUEUE if verdict is Verdict.NACK else End.REMOVE)
        if settlement.result is not None and self._outcomes.are_rows:
            ending.rows = (self._outcomes.row(settlement.result),)
        if verdict is Verdict.REJECT and self._supervisor.current.table is not None:
            ending.rows = (*ending.rows, DeadLetters.row(taken, settlement))
        elif verdict is Verdict.REJECT:
            ending.then = (dead_message(taken, settlement),)
        elif settlement.replacement is not None:
            outgoing = Outgoing.of(settlement.replacement)
            outgoing.mark = taken.origin or taken.mark
            if outgoing.ready > self._supervisor.clock.now() and not self._supervisor.traits.delays:
                ending.rows = (*ending.rows, self._delays.row(outgoing, taken.mark))
            else:
                ending.then = (outgoing,)
        return ending

    async def _end(self, endings: Mapping[Taken, Ending]) -> dict[Taken, Said]:
        for taken in endings:
            taken.unsure = True
        given = list(endings.values())
        found = await self._supervisor.answers("end", lambda c: c.queue.end(given), len(given))
        answers = dict(zip(endings, found, strict=True))
        for taken, answer in answers.items():
            taken.unsure = isinstance(answer, BrokerUnreachable)
        return answers

    async def _end_apart(self, endings: Mapping[Taken, Ending]) -> dict[Taken, Said]:
        """Make sure that it is ours, store what belongs to it, then end it; take back what a lost one had stored."""
        answers: dict[Taken, Said] = dict(await self._not_ours(endings))
        ours = {taken: one for taken, one in endings.items() if taken not in answers}
        await self._rows.create([row for one in ours.values() for row in one.rows])
        answers |= await self._send(ours)
        unsure = {taken for taken in ours if taken.unsure}
        bare = {taken: Ending(one.token, one.end) for taken, one in ours.items() if taken not in answers}
        if bare:
            answers |= await self._end(bare)
        # Of one that was unsure the end before may have been done: what it stored belongs to it.
        lost = [one for taken, one in ours.items() if answers[taken] is Settled.LOST and taken not in unsure]
        await self._rows.delete([row.key for one in lost for row in one.rows if not row.key.startswith("r/")])
        return answers

    async def _not_ours(self, endings: Mapping[Taken, Ending]) -> dict[Taken, Settled]:
        """Return those with something to store that somebody else has by now."""
        queue = self._supervisor.current.queue
        heavy = {taken: one for taken, one in endings.items() if one.rows or one.then}
        if not heavy or not isinstance(queue, Renewing):
            return {}
        tokens = [one.token for one in heavy.values()]
        ours = await self._supervisor.answers("renew", lambda _: queue.renew(tokens), len(tokens))
        return {taken: Settled.LOST for taken, is_ours in zip(heavy, ours, strict=True) if not is_ours}

    async def _send(self, endings: Mapping[Taken, Ending]) -> dict[Taken, TranshipError]:
        """Send what replaces deliveries; return those of which it failed, which then are not ended."""
        pairs = [(taken, message) for taken, one in endings.items() for message in one.then]
        if not pairs:
            return {}
        messages = [message for _, message in pairs]
        answers = await self._supervisor.answers("send", lambda c: c.queue.send(messages), len(messages))
        return {
            taken: answer
            for (taken, _), answer in zip(pairs, answers, strict=True)
            if isinstance(answer, TranshipError)
        }

    async def _end_delayed(self, taken: Taken, row: DelayedRow, settlement: Settlement) -> Said:
        """End what was taken out of the table before it was due."""
        try:
            return await self._delayed_ended(taken, row, settlement)
        except ClosedError:
            raise
        except TranshipError as error:
            return error

    async def _delayed_ended(self, taken: Taken, row: DelayedRow, settlement: Settlement) -> Said:
        if not await self._delays.renew(row, MOVING):
            return Settled.LOST
        if settlement.verdict is Verdict.NACK:
            await self._delays.forward([row])
            return Settled.CONFIRMED
        ending = self._ending(taken, settlement)
        await self._rows.create(ending.rows)
        failed = await self._send({taken: ending})
        if failed:
            return failed[taken]
        (removed,) = await self._delays.remove([row])
        return Settled.CONFIRMED if removed else Settled.LOST

    async def release(self, taken: Sequence[Taken], *, handed_out: bool) -> None:
        """Give back what nobody has touched, not counted."""
        await self._delays.forward([one.token for one in taken if isinstance(one.token, DelayedRow)])
        endings = [
            Ending(one.token, End.RELEASE, handed_out=handed_out)
            for one in taken
            if not isinstance(one.token, DelayedRow)
        ]
        if endings:
            await self._supervisor.answers("end", lambda c: c.queue.end(endings), len(endings))
