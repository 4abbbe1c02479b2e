"""What cases about outages have in common: trying again, and a ledger of what was said and what came."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

from tranship.envelope import Receipt
from tranship.errors import BrokerUnreachable, SubmitUnknown, TranshipError
from tranship.ports import Backend, ConnectionEvent, Consumer, Delivery, Settled, Settlement, Verdict
from tranship.protocol import Message
from tranship.testing.context import CaseContext, ids_of

__all__ = [
    "Events",
    "Ledger",
    "back",
    "need_restart",
    "receive_again",
    "settle_again",
    "store_again",
    "submit_again",
    "unreachable",
]


def back(context: CaseContext) -> float:
    """Seconds within which a backend works again once its broker does."""
    return 1.5 * context.patience


def need_restart(context: CaseContext) -> None:
    """Skip the case where nobody can restart the broker."""
    if not context.harness.can("restart"):
        context.lack("the harness cannot restart the broker")


class Ledger:
    """What was said of each message, and how often it came."""

    def __init__(self) -> None:
        self.said: dict[str, Receipt | TranshipError] = {}
        self.came: Counter[str] = Counter()

    @property
    def receipts(self) -> int:
        """How many messages were accepted so far."""
        return sum(isinstance(answer, Receipt) for answer in self.said.values())

    async def submit(self, backend: Backend, *messages: Message) -> bool:
        """Submit and note the answers; whether all were accepted."""
        try:
            answers: Sequence[Receipt | TranshipError] = await backend.submitter().submit(messages)
        except TranshipError as error:
            answers = [error] * len(messages)
        assert len(answers) == len(messages), f"{len(answers)} answers for {len(messages)} messages"
        self.said.update((message.envelope.id, answer) for message, answer in zip(messages, answers, strict=True))
        return all(isinstance(answer, Receipt) for answer in answers)

    async def submit_until(self, context: CaseContext, backend: Backend, over: asyncio.Event) -> None:
        """Submit ten at a time until it is over, and then until ten more are accepted."""
        while True:
            last = over.is_set()
            accepted = await self.submit(backend, *context.messages(10))
            if last and accepted:
                return
            # At random, so that the submitters do not fall into step.
            await context.pass_time(random.uniform(0, 0.003 if accepted else 0.05))

    async def take(self, context: CaseContext, consumer: Consumer) -> None:
        """Acknowledge and note whatever comes, until nothing has come for a second."""
        while deliveries := await _receive(context, consumer):
            self.came.update(ids_of(deliveries))
            await context.settle(consumer, Verdict.ACK, *deliveries)

    def lies(self) -> list[str]:
        """Where what was said is not what came."""
        return [
            f"{type(answer).__name__} for {task_id}, which came {self.came[task_id]} times ({answer})"
            for task_id, answer in self.said.items()
            if self.came[task_id] not in _possible(answer)
        ]


async def _receive(context: CaseContext, consumer: Consumer) -> Sequence[Delivery]:
    """What comes within a second; a server that is just back may need a moment before."""
    end = time.monotonic() + back(context)
    while True:
        try:
            return (await consumer.receive(100, 1.0)).deliveries
        except BrokerUnreachable:
            if time.monotonic() > end:
                raise
            await context.pass_time(0.05)


def _possible(answer: Receipt | TranshipError) -> range:
    """How often a message may come of which this was said."""
    if isinstance(answer, Receipt):
        return range(1, 2)
    return range(2) if isinstance(answer, SubmitUnknown) else range(1)


class Events:
    """What a backend told of its connection."""

    def __init__(self, backend: Backend) -> None:
        self._seen: list[ConnectionEvent] = []
        backend.on_event(lambda event, _generation: self._seen.append(event))

    async def lost(self, context: CaseContext) -> None:
        """Return when the connection was reported lost, or fail."""

        async def seen() -> bool:
            return ConnectionEvent.LOST in self._seen

        await context.eventually(seen, "the lost connection is noticed", within=context.harness.notice)

    async def restored(self, context: CaseContext) -> None:
        """Return when the connection was reported back after it was lost, or fail."""

        async def seen() -> bool:
            return self._seen[-1:] == [ConnectionEvent.RESTORED]

        await context.eventually(seen, "the connection is restored", within=back(context))


async def submit_again(context: CaseContext, backend: Backend) -> list[str]:
    """Submit one message until it is accepted; return its id. It may come more than once."""
    message = context.message()

    async def accepted() -> list[str]:
        answer: object
        try:
            (answer,) = await backend.submitter().submit([message])
        except BrokerUnreachable as error:
            answer = error
        assert isinstance(answer, Receipt | BrokerUnreachable | SubmitUnknown), repr(answer)
        return [message.envelope.id] if isinstance(answer, Receipt) else []

    return await context.eventually(accepted, "a submit succeeds again", within=back(context))


async def receive_again(context: CaseContext, consumer: Consumer) -> list[str]:
    """Receive until something comes, acknowledge it, and return the ids."""

    async def received() -> list[Delivery]:
        try:
            return list((await consumer.receive(10, 1.0)).deliveries)
        except BrokerUnreachable:
            return []

    deliveries = await context.eventually(received, "messages come again", within=back(context))
    await settle_again(context, consumer, [Settlement(one, Verdict.ACK) for one in deliveries])
    return ids_of(deliveries)


async def settle_again(context: CaseContext, consumer: Consumer, settlements: Sequence[Settlement]) -> list[Settled]:
    """Settle, again what could not be, until there is an answer for each; return them."""
    answers: dict[Settlement, Settled] = {}

    async def settled() -> list[Settled]:
        left = [one for one in settlements if one not in answers]
        try:
            said = zip(left, await consumer.settle(left), strict=True)
        except BrokerUnreachable:
            return []
        answers.update((one, answer) for one, answer in said if isinstance(answer, Settled))
        return [answers[one] for one in settlements] if len(answers) == len(settlements) else []

    return await context.eventually(settled, "settling is answered again", within=back(context))


async def store_again(context: CaseContext, backend: Backend, task_id: str) -> None:
    """Store a result, as soon as the store answers."""

    async def stored() -> bool:
        try:
            return len(await backend.results().put([context.result(task_id, 1)])) == 1
        except BrokerUnreachable:
            return False

    await context.eventually(stored, f"the result of {task_id} is stored", within=back(context))


async def unreachable(backend: Backend, within: float) -> bool:
    """Whether ``ping()`` fails by itself in time."""
    try:
        await asyncio.wait_for(backend.ping(), within)
    except TimeoutError:
        return False
    except TranshipError:
        return True
    return False
