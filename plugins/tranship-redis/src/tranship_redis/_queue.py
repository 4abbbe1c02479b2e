"""All queues over one connection: the verbs of the driver kit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from redis.exceptions import ResponseError

from tranship.driver import Answer, Outgoing, QueueTraits, SendLimits
from tranship.errors import BrokerUnreachable
from tranship.ports import CountKind
from tranship_redis._batch import Batch
from tranship_redis._broker import Broker
from tranship_redis._browsing import Browsing
from tranship_redis._channel import Channel
from tranship_redis._journal import SubmitJournal
from tranship_redis._pack import pack
from tranship_redis._scripts import Script
from tranship_redis._settling import Settling
from tranship_redis._taking import Taking
from tranship_redis._wire import Reply

__all__ = ["RedisQueue"]

BATCH: Final = 250
"""Messages of a batch: about half a millisecond of either side's time."""
BYTES: Final = 1 << 20
"""A batch has no more, unless it is a single message."""
UNDER_WAY: Final = 8
"""Batches of one submit that are under way at once."""
_QUEUES: Final = 10_000
"""Names of queues that are remembered as registered."""

_EARLY: Final = Script("early")
Done = Callable[[Sequence[Answer] | Exception], None]


class RedisQueue:
    """See :class:`tranship.driver.Queue`.

    Args:
        broker: what is known beyond the connection.
        channel: where messages are sent.
        work: returns the socket for claims, opened by the first who asks.
        ends: returns it, if it has been opened, or the other one: who has only picked something needs no more.
    """

    def __init__(
        self,
        broker: Broker,
        channel: Channel,
        work: Callable[[], Awaitable[Channel]],
        ends: Callable[[], Channel],
    ) -> None:
        self._broker, self._channel, self._work = broker, channel, work
        self.traits = QueueTraits(
            lease=broker.options.lease,
            counts=CountKind.EXACT,
            order="keeps-place",
            levels=True,
            turns=True,
            delays=True,
            finds="delayed",
            unique=True,
            fuses=True,
            tells=True,
            numbers=[broker.levels.priority(number) for number in range(10)],
            limits=SendLimits(messages=BATCH, octets=BYTES, under_way=UNDER_WAY),
        )
        self.taking = Taking(broker, channel, work)
        self.take, self.watch = self.taking.take, self.taking.watch
        settling = Settling(broker, ends, self.taking.ring)
        self.end, self.renew = settling.end, settling.renew
        self._journal = SubmitJournal(channel, broker.keys)
        self._registered: set[str] = set()
        browsing = Browsing(broker, channel)
        self.queues, self.find, self.scan = browsing.queues, browsing.find, browsing.scan
        self.search, self.pick = browsing.search, browsing.pick

    async def may_be_read(self, queue: str) -> bool:
        """Whether Celery knows it: nothing on the server says which of its workers are there now."""
        peers = self._broker.options.celery_queues.of(queue)
        if peers is None:
            return bool(await self._channel.call(b"EXISTS", self._broker.keys.binding(queue)))
        return peers

    # Sending.

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        """Store messages."""
        answers: asyncio.Future[Sequence[Answer] | Exception] = asyncio.get_running_loop().create_future()
        self.post(batch, lambda found: None if answers.done() else answers.set_result(found))
        found = await answers
        if isinstance(found, Exception):
            raise found
        return found

    def post(self, batch: Sequence[Outgoing], done: Done) -> None:
        """Do the same, at once: nothing more is to come."""
        made = self._broker.writer.batch(batch)
        if not made:
            done(made.answers)
            return
        self._channel.hold()
        try:
            if not made.queues <= self._registered:
                self._register(made)
            self._journal.post(made, partial(self._posted, batch, done))
        finally:
            self._channel.flush()

    def _posted(self, batch: Sequence[Outgoing], done: Done, found: Sequence[Answer] | Exception) -> None:
        if isinstance(found, Exception):
            self._broker.lost[id(batch)] = self._journal
        done(found)

    async def recall(self, batches: Sequence[Sequence[Outgoing]]) -> Sequence[Sequence[Answer]]:
        """Ask what the server knows of the connections that have gone."""
        lost, answers = self._broker.lost, dict[int, list[Answer]]()
        for journal in {id(one): one for batch in batches if (one := lost.get(id(batch)))}.values():
            answers |= await journal.recall(self._channel)
        never = BrokerUnreachable("the connection was lost before the message was sent; it was not stored")
        for batch in batches:
            lost.pop(id(batch), None)
        return [answers.get(id(batch), [never] * len(batch)) for batch in batches]

    def _register(self, batch: Batch) -> None:
        """Make the queues of a batch known to inspectors."""
        if len(self._registered) > _QUEUES:
            self._registered.clear()
        new = batch.queues - self._registered
        self._channel.post(pack(b"SADD", self._broker.keys.queues, *new), partial(self._did_register, new))
        self._registered |= new

    def _did_register(self, queues: set[str], reply: Reply) -> None:
        if isinstance(reply, ResponseError):
            self._registered -= queues

    async def ensure(self, queues: Sequence[str]) -> None:
        """Make the queues known to inspectors; lists need no creating."""
        if queues:
            await self._channel.call(b"SADD", self._broker.keys.queues, *queues)

    async def advance(self, queues: Sequence[str], limit: int) -> int:
        """Make up to ``limit`` messages ready that are not due yet; return how many."""
        keys, made = self._broker.keys, 0
        for queue in queues:
            names = [keys.delayed(queue), keys.delayed_messages(queue), keys.delayed_queues]
            if made < limit:
                made += await self._channel.run(_EARLY, names, [limit - made, keys.list(queue, 0)])
        return made
