"""The queues over one connection: what is sent, taken, ended and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from tranship.driver import End, Ending, QueueTraits, SendLimits, Slot, Taken, TakenBatch
from tranship.envelope import Priority
from tranship.errors import TranshipError
from tranship.ports import CountKind, QueueInfo, Settled
from tranship_rabbitmq._delivery import DeliveryToken, taken_of
from tranship_rabbitmq._errors import error_of, is_missing, retryable
from tranship_rabbitmq._link import Link
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq._sending import Sender
from tranship_rabbitmq._taking import Reader
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.ends import ChannelEnded, Ended

if TYPE_CHECKING:
    from tranship_rabbitmq._connection import RabbitConnection
    from tranship_rabbitmq._context import Context

__all__ = ["RabbitQueue"]

SENT_TOGETHER: Final = 4
"""Batches of one submit that are under way at once: they are published in order, on one channel."""


class RabbitQueue:
    """See :class:`tranship.driver.Queue`.

    Args:
        ctx: of the backend.
        connection: what everything goes over.
    """

    def __init__(self, ctx: Context, connection: RabbitConnection) -> None:
        self._ctx, self._connection = ctx, connection
        self._is_classic = ctx.options.queue_type == "classic"
        self._sender = Sender(ctx, connection)
        self.send, self.post = self._sender.send, self._sender.post
        self._reader: Reader | None = None
        self._peeker = Peeker(ctx, connection.consuming)
        self._late: set[asyncio.Task[object]] = set()
        self.traits = QueueTraits(
            hard_limit=ctx.options.consumer_timeout,
            counts=CountKind.AT_LEAST,
            order="back",
            levels=True,
            waits=True,
            delays=True,
            tokens_survive=False,
            numbers=ctx.names.levels_by_number,
            limits=SendLimits(under_way=SENT_TOGETHER),
        )

    def reader(self) -> Reader:
        """Return what one consumer takes with, on a channel of its own."""
        return Reader(self._ctx, self._connection)

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Take for who is no consumer."""
        if self._reader is None:
            self._reader = self.reader()
        return await self._reader.take(slots, limit, wait)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._sender.close()
        for task in self._late:
            task.cancel()

    async def ensure(self, queues: Sequence[str]) -> None:
        """Create the queues of every level that do not exist.

        Raises:
            BrokerRefused: a queue is there, and of another kind.
            BrokerUnreachable, StorageFull.
        """
        await self._connection.topology.queues(queues)
        await self._ctx.queue_names.enter(queues)

    # Ending.

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled | TranshipError]:
        """Acknowledge, or give back. AMQP has no answer to either; what is asked behind them has one."""
        answers: dict[int, Settled | TranshipError] = {}
        ours: dict[End, dict[int, DeliveryToken]] = {end: {} for end in End}
        for at, one in enumerate(endings):
            if one.token.ours:
                one.token.done = True
                one.token.aside |= one.handed_out
                ours[one.end][at] = one.token
            else:
                answers[at] = Settled.LOST
        for token in ours[End.REMOVE].values():
            token.remove()
        answers |= await self._requeued(ours[End.REQUEUE])
        await self._released(list(ours[End.RELEASE].values()))
        sent = {at: token for group in ours.values() for at, token in group.items() if at not in answers}
        error = await self._unheard(sent.values())
        for token in sent.values():
            token.heard()
        answers |= dict.fromkeys(sent, error or Settled.SENT)
        return [answers[at] for at in range(len(endings))]

    async def _requeued(self, tokens: dict[int, DeliveryToken]) -> dict[int, TranshipError]:
        """Give back what was tried; return those of which it failed. A classic queue does not count what comes back: a
        copy carries the count.
        """
        if not self._is_classic:
            for token in tokens.values():
                token.give_back()
            return {}
        failed = dict(zip(tokens, await self._copy(list(tokens.values()), counted=True), strict=True))
        for at, error in failed.items():
            if error is not None:
                tokens[at].done = False
        return {at: error for at, error in failed.items() if error is not None}

    async def _released(self, tokens: Sequence[DeliveryToken]) -> None:
        """Give back what was not tried: as a copy, with nothing held against it; where that cannot be, as it is."""
        copied = [token for token in tokens if not token.aside]
        outcomes = dict(zip(copied, await self._copy(copied, counted=False), strict=True))
        # The last first: each is put in front of those that are there.
        for token in reversed(tokens):
            if token.aside or outcomes[token] is not None:
                token.give_back()

    async def copied(self, tokens: Sequence[DeliveryToken], *, counted: bool) -> None:
        """Replace each by a copy at the end of its queue.

        Raises:
            BrokerUnreachable, StorageFull, SubmitUnknown, EncodeError: some could not be copied; those are ours still.
        """
        for error in await self._copy(tokens, counted=counted):
            if error is not None:
                raise error

    async def _copy(self, tokens: Sequence[DeliveryToken], *, counted: bool) -> list[TranshipError | None]:
        """Replace each by a copy; return why it could not be.

        A classic queue writes acknowledgements down with the next message that it confirms, or once it has been left
        alone for 200 ms: a server that is killed before has copy and original. So the last copy is made when the
        server has heard that the other originals are gone.
        """
        first, last = tokens[:-1], tokens[-1:]
        outcomes = await self._copy_each(first, counted=counted)
        if first:
            await self._unheard(first)
        return outcomes + await self._copy_each(last, counted=counted)

    async def _copy_each(self, tokens: Sequence[DeliveryToken], *, counted: bool) -> list[TranshipError | None]:
        async def copy(token: DeliveryToken) -> None:
            await self._connection.topology.have(token.physical)
            properties, body, name = token.copy(counted=counted)
            await self._connection.publisher.publish(properties, body, routing_key=name)
            token.remove()

        return await _outcomes(copy(token) for token in tokens)

    async def _unheard(self, tokens: Iterable[DeliveryToken]) -> TranshipError | None:
        """Return once the server has heard of the ends of messages; or why that is not known: what it has not heard of
        comes again.
        """
        for channel in {token.channel for token in tokens}:
            try:
                # Nothing that changes the channel: the standing consumers depend on its limits.
                await self._connection.consuming.call(channel, "settling", "channel.flow", True)
            except ChannelEnded as why:
                return retryable(error_of(why, doing="settling"))
            except TranshipError as error:
                return error
        return None

    async def renew(self, tokens: Sequence[DeliveryToken]) -> Sequence[bool]:
        """Say which are ours: those whose channel lives."""
        return [token.ours for token in tokens]

    def release_late(self, taken: Taken) -> None:
        """Give back what came when nobody took any more."""
        task = asyncio.get_running_loop().create_task(self.end([Ending(taken.token, End.RELEASE)]))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    # Looking.

    async def queues(self) -> Sequence[QueueInfo]:
        """Count what is ready in every queue that tranship has used, and in those of their dead letters."""
        found: list[QueueInfo] = []
        for queue in await self._ctx.queue_names.known():
            levels = {one.name: one.priority for one in self._ctx.names.physical([queue])}
            dead = self._ctx.names.dead(queue)
            counts = await self._connection.topology.counts([*levels, dead.name])
            ready = dict.fromkeys(Priority, 0)
            for name, level in levels.items():
                ready[level] += counts.get(name, 0)
            if any(ready.values()):
                found.append(QueueInfo(name=queue, ready=ready))
            if counts.get(dead.name):
                found.append(QueueInfo(name=dead.queue, ready={Priority.NORMAL: counts[dead.name]}))
        return found

    async def ready(self, queues: Collection[str]) -> int:
        """Count what is ready in some queues, which who asks knows by name."""
        names = [one.name for one in self._ctx.names.physical(queues)]
        return sum((await self._connection.topology.counts(names)).values())

    async def may_be_read(self, queue: str) -> bool:
        """Whether any level of it has a consumer: a Celery worker has one all the time."""
        looks = [await self._connection.topology.look(one.name) for one in self._ctx.names.physical([queue])]
        return any(there.consumers for there in looks if there is not None)

    async def peek(self, queue: str, limit: int) -> Sequence[Taken]:
        """Take messages that go back as they came, each to its place."""
        return await self._peeker.peek(queue, limit)


class Peeker:
    """Takes messages that are not tried, such as dead letters, over a channel of their own for each look.

    Args:
        ctx: of the backend.
        link: the connection for consuming.
    """

    def __init__(self, ctx: Context, link: Link) -> None:
        self._ctx, self._link = ctx, link

    async def peek(self, queue: str, limit: int) -> Sequence[Taken]:
        """Take up to ``limit`` messages of a queue, which may not be there.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        place = self._ctx.names.levels([(queue, Priority.NORMAL)])[0][0]
        doing = f"looking into {place.name!r}"
        await self._link.open()
        channel = await self._link.channel()
        calls = (channel.call("basic.get", 0, place.name, False) for _ in range(limit))
        replies = await self._link.bounded(asyncio.gather(*calls, return_exceptions=True), doing=doing)
        arrived = [one for one in replies if isinstance(one, Arrived)]
        look = _Look(channel, len(arrived))
        for reply in replies:
            if isinstance(reply, Ended) and is_missing(reply):
                return []
            if isinstance(reply, Ended):
                raise error_of(reply, doing=doing) from reply
            if isinstance(reply, BaseException):
                raise reply
        return [self._taken(look, one, place) for one in arrived]

    def _taken(self, look: _Look, arrived: Arrived, place: Physical) -> Taken:
        tables, names = self._ctx.tables, self._ctx.names
        taken = taken_of(look.channel, arrived, place, tables=tables, names=names, settled=look.settled)
        taken.token.aside, taken.token.heard = True, look.heard
        return taken


class _Look:
    """One look: its channel is closed when the server has heard of the ends of everything that it brought."""

    def __init__(self, channel: Channel, count: int) -> None:
        self.channel, self._left = channel, count
        self.heard()

    def settled(self, _arrived: Arrived) -> None:
        """One more has ended."""
        self._left -= 1

    def heard(self) -> None:
        """Close the channel, if everything has ended; twice does no harm."""
        if not self._left:
            self.channel.post(lambda _: None, "channel.close", 200, "", 0, 0)


async def _outcomes(works: Iterable[Awaitable[None]]) -> list[TranshipError | None]:
    """Do several things at once; return for each why it failed."""
    found: list[TranshipError | None] = []
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if outcome is not None and not isinstance(outcome, TranshipError):
            raise outcome
        found.append(outcome)
    return found
