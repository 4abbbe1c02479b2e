"""The end of deliveries: whatever has to outlive one is confirmed before it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tranship.envelope import Receipt
from tranship.errors import TranshipError
from tranship.ports import Delivery, Settled, Settlement, Verdict
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._deadletters import burial
from tranship_rabbitmq._delivery import recounted, token_of
from tranship_rabbitmq._errors import error_of, retryable
from tranship_rabbitmq._submitter import RabbitSubmitter
from tranship_rabbitmq.amqp.channel import Arrived
from tranship_rabbitmq.amqp.content import Properties
from tranship_rabbitmq.amqp.ends import ChannelEnded

__all__ = ["Settler"]

Said = Settled | TranshipError


class Settler:
    """Carries out verdicts for one consumer.

    Args:
        ctx: of the backend.
        submitter: sends replacements.
        settled: called with each message that has been settled.
    """

    def __init__(self, ctx: Context, submitter: RabbitSubmitter, settled: Callable[[Arrived], None]) -> None:
        self._ctx = ctx
        self._submitter = submitter
        self._settled = settled
        self._counts = ctx.options.queue_type == "quorum"

    async def settle(self, settlements: Sequence[Settlement]) -> list[Said]:
        """Settle, in order, and say of each what became of it; several copies are under way at once.

        BrokerUnreachable, StorageFull, SubmitUnknown, ...: its copy was not confirmed.
        """
        answers: dict[Settlement, Said | None] = {one: self._begin(one) for one in settlements}
        mine = [one for one, answer in answers.items() if answer is None]
        answers.update({one: self._finish(one) for one in mine if not self._needs_copy(one)})
        answers.update(await self._copy_all([one for one in mine if self._needs_copy(one)]))
        ended = [one for one in mine if answers[one] is Settled.SENT]
        answers.update(await self._unheard(ended))
        return [answer for one in settlements if (answer := answers[one]) is not None]

    async def _unheard(self, settlements: Sequence[Settlement]) -> dict[Settlement, TranshipError]:
        """Return those of which it is not known whether the server has heard."""
        try:
            await self.heard([one.delivery for one in settlements])
        except TranshipError as error:
            return dict.fromkeys(settlements, error)
        return {}

    async def heard(self, deliveries: Sequence[Delivery]) -> None:
        """Return once the server has heard: acknowledgements have no answer, but what is asked behind them has one.

        Raises:
            BrokerUnreachable: whether it has heard is not known; what it has not heard comes again.
        """
        for channel in {token_of(one).channel for one in deliveries}:
            try:
                # Nothing that changes the channel: the standing consumers depend on its limits.
                await self._ctx.consuming.call(channel, "settling", "channel.flow", True)
            except ChannelEnded as why:
                raise retryable(error_of(why, doing="settling")) from why

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Back to the queue, where each was."""
        # The last first: each is put in front of those that are there.
        for one in reversed(deliveries):
            token = token_of(one)
            if token.ours:
                token.settled = True
                token.channel.send("basic.nack", token.arrived.tag, False, True)
                self._settled(token.arrived)

    def drop(self, delivery: Delivery) -> None:
        """Remove it: a copy is where it was."""
        token = token_of(delivery)
        token.settled = True
        token.channel.send("basic.ack", token.arrived.tag, False)
        self._settled(token.arrived)

    async def copy(self, delivery: Delivery, properties: Properties) -> None:
        """Put a copy with other properties into the queue that the delivery is from.

        Raises:
            BrokerUnreachable, StorageFull, SubmitUnknown, EncodeError.
        """
        token = token_of(delivery)
        await self._ctx.topology.have(token.physical)
        await self._ctx.publisher.publish(properties, token.arrived.body, routing_key=token.physical.name)

    @staticmethod
    def _begin(settlement: Settlement) -> Said | None:
        """Take a delivery in hand; an answer if there is nothing to do."""
        token = token_of(settlement.delivery)
        if not token.ours:
            return Settled.LOST
        if settlement.problem is not None:
            return settlement.problem
        token.settled = True
        return None

    def _needs_copy(self, settlement: Settlement) -> bool:
        verdict = settlement.verdict
        # A classic queue does not count what comes back: a copy carries the count.
        return verdict in (Verdict.REJECT, Verdict.REPLACE) or (verdict is Verdict.NACK and not self._counts)

    async def _copy_all(self, settlements: Sequence[Settlement]) -> dict[Settlement, Said]:
        outcomes = await asyncio.gather(*map(self._copy, settlements), return_exceptions=True)
        answers: dict[Settlement, Said] = {}
        for one, outcome in zip(settlements, outcomes, strict=True):
            if outcome is None:
                answers[one] = self._finish(one)
                continue
            token_of(one.delivery).settled = False
            if not isinstance(outcome, TranshipError):
                raise outcome
            answers[one] = outcome
        return answers

    async def _copy(self, settlement: Settlement) -> None:
        delivery = settlement.delivery
        if settlement.verdict is Verdict.REPLACE:
            assert settlement.replacement is not None
            (answer,) = await self._submitter.submit([settlement.replacement])
            if not isinstance(answer, Receipt):
                raise answer
        elif settlement.verdict is Verdict.REJECT:
            name = self._ctx.names.dead(delivery.queue)
            await self._ctx.topology.have_own(name, {})
            properties = burial(delivery, settlement.reason, settlement.detail)
            await self._ctx.publisher.publish(properties, token_of(delivery).arrived.body, routing_key=name)
        else:
            await self.copy(delivery, recounted(delivery))

    def _finish(self, settlement: Settlement) -> Settled:
        token = token_of(settlement.delivery)
        if settlement.verdict is Verdict.NACK and self._counts:
            token.channel.send("basic.nack", token.arrived.tag, False, True)
        else:
            token.channel.send("basic.ack", token.arrived.tag, False)
        self._settled(token.arrived)
        return Settled.SENT
