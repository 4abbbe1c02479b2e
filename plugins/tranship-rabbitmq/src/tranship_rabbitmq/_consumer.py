"""The consumer: exactly what is asked for, strictly by level; woken by the server while there is nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final

from tranship.errors import ClosedError, TranshipError
from tranship.guards import OneReceiver
from tranship.ports import Delivery, Received, Settled, Settlement
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._delivery import token_of
from tranship_rabbitmq._errors import error_of, is_missing, retryable
from tranship_rabbitmq._fetching import Fetcher
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq._prefetch import Prefetch
from tranship_rabbitmq._settling import Settler
from tranship_rabbitmq._submitter import RabbitSubmitter
from tranship_rabbitmq._watching import Watch
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.ends import Ended

__all__ = ["RabbitConsumer"]

log = logging.getLogger("tranship.rabbitmq")

_DOING: Final = "receiving"


class RabbitConsumer:
    """Takes messages; see :class:`tranship.ports.Consumer`.

    A busy worker fetches what it has room for, and holds no more than one message per lower level beside; an idle
    one has standing consumers. Deliveries live as long as the consumer's channel.

    Args:
        ctx: of the backend.
        queues: what to consume.
        submitter: sends what replaces a delivery.
        closed: called with this consumer when it has been closed.
    """

    def __init__(
        self,
        ctx: Context,
        queues: Sequence[str],
        submitter: RabbitSubmitter,
        closed: Callable[[RabbitConsumer], object],
    ) -> None:
        self._ctx = ctx
        self._queues = list(queues)
        self._on_closed = closed
        self._physicals = ctx.names.physical(self._queues)
        quorum = ctx.options.queue_type == "quorum"
        self._watch = Watch(ctx.consuming, self._pushed, self._deleted, quorum=quorum)
        self._settler = Settler(ctx, submitter, self._watch.settled)
        self._prefetch = Prefetch(ctx, self._physicals, self._settler)
        self._fetcher = Fetcher(self._prefetch.buffer, self._prefetch.admit, lambda: bool(self._prefetch.uncounted))
        self._arrival = asyncio.Event()
        self._missing = False
        """Whether a queue has been deleted, and has to be declared again."""
        self._alone = OneReceiver()
        self._worked = False
        self._closed = False

    @property
    def lease(self) -> float | None:
        """A delivery is ours as long as the connection lives."""
        return None

    @property
    def hard_limit(self) -> float | None:
        """The server's ``consumer_timeout``, as the option says it."""
        return self._ctx.options.consumer_timeout

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Fetch, or wait to be woken.

        Raises:
            BusyError: somebody else is receiving.
            BrokerUnreachable, BrokerRefused, StorageFull, ClosedError.
        """
        self._check()
        with self._alone:
            self._prefetch.keep()
            try:
                received = await self._receive(limit, asyncio.get_running_loop().time() + wait, skip)
                self._worked = True
                return received
            except (Ended, TranshipError) as why:
                self._check()
                error = why if isinstance(why, TranshipError) else self._explained(why)
                # What worked before will work again when somebody has mended it: no reason for a worker to give up.
                raise (retryable(error) if self._worked else error) from why
            finally:
                if len(self._prefetch.buffer):
                    self._prefetch.hold()

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back, to where it was; the server marks it as delivered before."""
        self._check()
        self._settler.give_back(deliveries)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Say of each whether it is still ours; there is nothing to renew."""
        self._check()
        return [token_of(one).ours for one in deliveries]

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """Carry out verdicts; copies are confirmed before the originals go."""
        self._check()
        return await self._settler.settle(settlements)

    async def aclose(self) -> None:
        """Close the channel: what is unsettled on it goes back to its queues."""
        if self._closed:
            return
        self._closed = True
        self._arrival.set()
        self._on_closed(self)
        await self._prefetch.aclose()
        channel, self._prefetch.channel = self._prefetch.channel, None
        if channel is not None and channel.ended is None:
            try:
                await self._ctx.consuming.bounded(channel.close(), doing="closing a consumer")
            except TranshipError as error:
                log.debug("a consumer's channel ended with its connection: %s", error)

    # Receiving.

    async def _receive(self, limit: int, until: float, skip: Collection[str]) -> Received:
        loop = asyncio.get_running_loop()
        wanted = [one for one in self._physicals if one.queue not in skip]
        while True:
            if self._ctx.consuming.lost:
                await self._connected(until - loop.time())
            channel = await self._open()
            self._arrival.clear()
            if not self._watch.covers(wanted):
                await self._fetch(channel, limit, skip)
            elif self._prefetch.uncounted:
                await self._count()
            if taken := await self._prefetch.take(limit, skip):
                return Received(taken)
            left = until - loop.time()
            if left <= 0 or not wanted:
                return Received((), confirmed=self._is_heard(channel))
            if not self._watch.covers(wanted):
                await self._watch.start(channel, wanted, limit)
            await self._woken(left)

    async def _fetch(self, channel: Channel, limit: int, skip: Collection[str]) -> None:
        while True:
            await self._ctx.consuming.bounded(self._fetcher.fetch(channel, limit, skip), doing=_DOING)
            if not self._prefetch.uncounted:
                return
            await self._count()

    async def _connected(self, seconds: float) -> None:
        """Wait for the connection: who is told at once that it is lost asks again much later than it is back."""
        self._arrival.clear()
        self._ctx.consuming.when_up(self._arrival.set)
        await self._woken(seconds)

    async def _woken(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._arrival.wait()
        except TimeoutError:
            return

    async def _open(self) -> Channel:
        self._check()
        channel = self._prefetch.channel
        if channel is None or channel.ended is not None:
            channel = await self._open_new()
        elif self._missing:
            await self._ctx.topology.queues(self._queues)
        self._missing = False
        return channel

    async def _open_new(self) -> Channel:
        await self._ctx.consuming.open()
        await self._ctx.topology.queues(self._queues)
        for queue in self._queues:
            self._ctx.queue_names.add(queue)
        await self._ctx.queue_names.answered()
        # What was taken over an earlier channel is somebody else's.
        self._prefetch.clear()
        self._fetcher.forget()
        self._watch.lost()
        channel = self._prefetch.channel = await self._ctx.consuming.channel()
        channel.on_ended = lambda _why: self._arrival.set()
        self._check()
        return channel

    def _is_heard(self, channel: Channel) -> bool:
        """Whether the server has said anything lately: silence is not emptiness."""
        wire, beat = channel.wire, self._ctx.options.heartbeat or self._ctx.options.command_timeout
        return wire.ended is None and asyncio.get_running_loop().time() - wire.heard_at <= beat

    def _explained(self, why: Ended) -> TranshipError:
        if is_missing(why):
            # It is declared again by the next receive.
            for one in self._physicals:
                self._ctx.topology.forget(one.name)
            return retryable(error_of(why, doing=_DOING))
        error = error_of(why, doing=_DOING)
        return retryable(error) if why.code in (404, 406) else error

    # What arrives.

    def _pushed(self, physical: Physical, arrived: Arrived) -> None:
        self._prefetch.admit(physical, arrived)
        self._arrival.set()
        if not self._alone.busy and self._prefetch.channel is not None:
            # More than there is room for: from now on only what is asked for.
            self._watch.stop(self._prefetch.channel)
            self._prefetch.hold()

    def _deleted(self, physical: Physical) -> None:
        log.warning("queue %r has been deleted; it is declared again", physical.name)
        self._ctx.topology.forget(physical.name)
        self._missing = True
        self._arrival.set()

    async def _count(self) -> None:
        for physical in await self._prefetch.count():
            self._fetcher.deepen(physical.name, 1)

    def _check(self) -> None:
        self._ctx.check()
        if self._closed:
            raise ClosedError("this consumer has been closed; make a new one")
