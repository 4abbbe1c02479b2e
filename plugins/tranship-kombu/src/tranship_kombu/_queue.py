"""The queue of the driver: each verb is one job for the connection's thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from tranship.driver import Answer, End, Ending, Outgoing, QueueTraits, SendLimits, Slot, Taken, TakenBatch
from tranship.envelope import Priority
from tranship.errors import BrokerUnreachable, MalformedMessage, PluginError, SubmitUnknown, TranshipError
from tranship.ports import Settled
from tranship_kombu._client import LOOK, Client
from tranship_kombu._held import Held
from tranship_kombu._messages import level_at, level_of, read
from tranship_kombu._place import Place
from tranship_kombu._thread import OneThread
from tranship_kombu._waiting import WaitingRoom, due_of

__all__ = ["KombuQueue", "LeasedQueue", "traits_of"]

_BATCH: Final = 100
"""Messages that are sent in one job: each is a round trip, and all of them have to be done in ``command_timeout``."""

_OFTEN: Final = 0.05
"""Seconds between two looks of the kit at a queue that does not wait."""

Explain = Callable[[Exception], TranshipError | None]


def traits_of(place: Place) -> QueueTraits:
    """Return what a queue at a place is like."""
    transport = place.transport
    return QueueTraits(
        lease=place.options.lease if transport.held == "lease" else None,
        hard_limit=place.longest_hold,
        order=transport.order,
        levels=transport.levels,
        numbers=[level_at(number) for number in range(10)] if transport.levels else (),
        # The kit looks as often by itself, and may change its mind between two looks.
        waits=place.polling > _OFTEN,
        delays=True,
        # What is held belongs to a channel; rows of tables do, too, because their versions are known there.
        tokens_survive=False,
        limits=SendLimits(messages=_BATCH),
    )


class KombuQueue:
    """All queues of a place, over one connection.

    What is taken is got one by one (``basic_get``), and not consumed: a take is told how many it may bring, and from
    which queues, and a consumer of kombu's brings what its prefetch count allows, of all queues of its channel.

    Args:
        place: the broker.
        client: kombu, for the thread.
        thread: the one.
        explain: makes our errors of native ones.
        broken: called with what a send has found out about the connection.
    """

    def __init__(
        self, place: Place, client: Client, thread: OneThread, explain: Explain, broken: Callable[[Exception], None]
    ) -> None:
        self.traits = traits_of(place)
        self._place, self._client, self._thread = place, client, thread
        self._explain, self._broken = explain, broken
        self._news = asyncio.Event()
        self._waiting = WaitingRoom(self.traits.hard_limit, self.traits.lease, self._renew_soon)

    def close(self) -> None:
        """Do nothing by itself any more."""
        self._waiting.close()

    async def ensure(self, queues: Sequence[str]) -> None:
        """Make what is missing."""
        await self._thread.run(lambda: self._client.ensure(queues))

    # Sending.

    async def may_be_read(self, queue: str) -> bool:  # noqa: ARG002 - of any
        """Whether a worker of Celery's may read it: kombu has no way to ask."""
        return True

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        """Publish one after the other."""
        answers = await self._thread.run(lambda: self._sent(batch))
        self._news.set()
        return answers

    def _sent(self, batch: Sequence[Outgoing]) -> list[Answer]:
        self._client.before_sending(batch)
        with self._client.together():
            return self._published(batch)

    def _published(self, batch: Sequence[Outgoing]) -> list[Answer]:
        answers: list[Answer] = []
        for one in batch:
            try:
                self._client.publish(one)
            except MalformedMessage as error:
                answers.append(error)
            except Exception as native:
                made = self._explain(native)
                if made is None or (not answers and len(batch) == 1):
                    raise
                answers.append(_answer(one, made, native))
                if isinstance(made, BrokerUnreachable):
                    self._broken(native)
                    # Nothing of the rest has been touched.
                    return answers + [_not_sent(later, made, native) for later in batch[len(answers) :]]
            else:
                answers.append(None)
        return answers

    # Taking.

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Get what is there and due; when there is nothing, look again now and then."""
        loop = asyncio.get_running_loop()
        until, queues = loop.time() + (wait if self.traits.waits else 0.0), {queue for queue, _ in slots}
        while True:
            self._news.clear()
            ready = self._waiting.due(queues, limit) or await self._got(slots, limit)
            left = until - loop.time()
            if ready or left <= 0:
                items = [self._taken(held, message) for held, message in ready]
                return TakenBatch(items, next_due=self._waiting.next_in(queues) if self._waiting else None)
            await self._until_news(min(left, self._place.polling, self._waiting.next_in(queues)))

    async def _got(self, slots: Sequence[Slot], limit: int) -> list[tuple[Held, Any]]:
        """Get until something is due, nothing more is there, or a look has taken long; what is not due is held."""
        until = time.monotonic() + LOOK
        while not self._waiting.full:
            got = await self._thread.run(lambda: self._client.get(slots, limit), self._give_back)
            ready, now = [], time.time()
            for held, message in got:
                if (due := due_of(message)) > now:
                    self._waiting.add(due, held, message)
                else:
                    ready.append((held, message))
            if ready or not got:
                return ready
            if time.monotonic() > until:
                # There is more, and a next look.
                self._news.set()
                break
        return []

    async def _until_news(self, seconds: float) -> None:
        waiting = asyncio.get_running_loop().call_later(seconds, self._news.set)
        try:
            await self._news.wait()
        finally:
            waiting.cancel()

    def _give_back(self, got: Sequence[tuple[Held, Any]]) -> None:
        """Give back what a take has brought that nobody waits for any more; in the thread."""
        for held, _ in got:
            self._client.give_back(held)

    def _taken(self, held: Held, message: Any) -> Taken:
        level = level_of(message) if self.traits.levels else Priority.NORMAL
        return Taken(held, held.queue, level, read(message))

    def _renew_soon(self, held: Sequence[Held]) -> None:
        self._thread.later(lambda: [self._client.renew(one) for one in held])

    # Ending.

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled | TranshipError]:
        """Acknowledge, or reject to have it again."""
        answers = await self._thread.run(lambda: self._all_ended(endings))
        if any(one.end is not End.REMOVE for one in endings):
            self._news.set()
        return answers

    def _all_ended(self, endings: Sequence[Ending]) -> list[Settled | TranshipError]:
        with self._client.together():
            return [self._ended(one) for one in endings]

    def _ended(self, ending: Ending) -> Settled | TranshipError:
        held: Held = ending.token
        end = self._client.remove if ending.end is End.REMOVE else self._client.give_back
        try:
            ended = end(held)
        except Exception as native:
            made = self._explain(native)
            if made is None or isinstance(made, BrokerUnreachable):
                raise
            made.__cause__ = native
            return made
        return self._settled if ended else Settled.LOST

    @property
    def _settled(self) -> Settled:
        # AMQP does not answer acknowledgements.
        return Settled.SENT if self._place.transport.amqp else Settled.CONFIRMED


class LeasedQueue(KombuQueue):
    """The same where what is taken has a lease that can be renewed."""

    async def renew(self, tokens: Sequence[Held]) -> Sequence[bool]:
        """Let each last for another lease."""
        return await self._thread.run(lambda: self._renewed(tokens))

    def _renewed(self, tokens: Sequence[Held]) -> list[bool]:
        with self._client.together():
            return [self._client.renew(held) for held in tokens]


def _answer(message: Outgoing, made: TranshipError, native: Exception) -> TranshipError:
    """Return what it means for a message that publishing it has failed."""
    if isinstance(made, BrokerUnreachable | PluginError):
        made = SubmitUnknown(f"whether it was submitted is not known: {made}")
    made.task_id, made.__cause__ = message.id, native
    return made


def _not_sent(message: Outgoing, made: TranshipError, native: Exception) -> TranshipError:
    error = BrokerUnreachable(f"it was not sent: {made}", task_id=message.id)
    error.__cause__ = native
    return error
