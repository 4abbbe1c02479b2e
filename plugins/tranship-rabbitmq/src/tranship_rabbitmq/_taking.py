"""Taking, for one consumer: a busy one fetches exactly what is asked for, strictly by level; an idle one is woken.

``basic.get`` says how many messages are ready behind the one it brings. With that, one round trip asks each level
from the top, as deep as it is known to be, and stops at the level that is sure to have the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tranship.driver import End, Ending, Slot, Taken, TakenBatch
from tranship.errors import StorageFull, TranshipError
from tranship_rabbitmq._delivery import DeliveryToken, taken_of
from tranship_rabbitmq._errors import error_of, is_missing, retryable
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq._watching import Watch
from tranship_rabbitmq.amqp.channel import Arrived, Channel, Reply
from tranship_rabbitmq.amqp.ends import Ended

if TYPE_CHECKING:
    from tranship_rabbitmq._connection import RabbitConnection
    from tranship_rabbitmq._context import Context

__all__ = ["Arrivals", "Fetcher", "Reader"]

T = TypeVar("T")
log = logging.getLogger("tranship.rabbitmq")

DOING: Final = "receiving"
SUSPECT: Final = 3
"""Delivered this often, a message may be what kills its workers: the kit has it travel alone."""
PATIENCE: Final = 2.0
"""Seconds that copies under way may take when nobody takes any more."""


class Arrivals:
    """What has come and was not taken yet, by the queue on the server that it is from."""

    def __init__(self) -> None:
        self._by_name: dict[str, deque[Taken]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_name.values()))

    def put(self, name: str, taken: Taken) -> None:
        """Add one behind the others of its queue."""
        self._by_name.setdefault(name, deque()).append(taken)

    def held(self, name: str) -> int:
        """How many there are from one queue."""
        return len(self._by_name.get(name, ()))

    def take(self, levels: Iterable[Sequence[Physical]], limit: int) -> list[Taken]:
        """Take up to ``limit``, level by level, queues in turn; all there are with one that may be a killer: what lies
        here must not die with it.
        """
        taken: list[Taken] = []
        for queues in levels:
            while len(taken) < limit and (there := [one for one in queues if self.held(one.name)]):
                taken += [self._by_name[one.name].popleft() for one in there[: limit - len(taken)]]
        return [*taken, *self.clear()] if any(one.delivery_count >= SUSPECT for one in taken) else taken

    def clear(self) -> list[Taken]:
        """Take everything."""
        taken = [one for queue in self._by_name.values() for one in queue]
        self._by_name.clear()
        return taken


class Fetcher:
    """Fetches what is missing.

    Args:
        arrivals: what is there already counts.
        admit: called with what was fetched.
        enough: whether something has come that has to be dealt with before any more is fetched.
    """

    def __init__(
        self, arrivals: Arrivals, admit: Callable[[Physical, Arrived], None], enough: Callable[[], bool]
    ) -> None:
        self._arrivals, self._admit, self._enough = arrivals, admit, enough
        self._depths: dict[str, int] = {}
        """How many are ready in each queue, as far as was last heard."""

    def deepen(self, name: str) -> None:
        """One more is ready in a queue."""
        self._depths[name] = self._depths.get(name, 0) + 1

    def forget(self) -> None:
        """Nothing is known any more."""
        self._depths.clear()

    async def fetch(self, channel: Channel, levels: Sequence[Sequence[Physical]], want: int) -> None:
        """Have the first ``want`` messages here, or all there are; or something to be dealt with first.

        Raises:
            Ended: the channel has, with everything that was fetched on it.
        """
        asked: set[str] = set()
        while not self._enough() and (plan := self._plan(levels, want, asked)):
            asked.update(physical.name for physical, _ in plan)
            await self._ask(channel, plan)

    def _plan(
        self, levels: Sequence[Sequence[Physical]], want: int, asked: Collection[str]
    ) -> list[tuple[Physical, int]]:
        """Which queues to ask how often: the first level that is known to have any, and those above it to be sure.

        Where none is known to have any, one level after the other: what is fetched from a level too far down
        would be held here while somebody else is idle.
        """
        plan: list[tuple[Physical, int]] = []
        first: list[tuple[Physical, int]] = []
        for queues in levels:
            held = sum(self._arrivals.held(one.name) for one in queues)
            rich = [one for one in queues if self._depths.get(one.name)]
            if held >= want:
                return plan
            plan += [(one, 1) for one in queues if one not in rich and one.name not in asked]
            first = first or list(plan)
            want -= held
            if rich:
                return plan + self._shares(want, rich)
            if held and plan:
                return plan
        return first

    def _shares(self, want: int, rich: Sequence[Physical]) -> list[tuple[Physical, int]]:
        """Ask each of ``rich`` for its part, as far as it has any."""
        shares = []
        for place, one in enumerate(rich):
            share = min(-(-want // (len(rich) - place)), self._depths[one.name])
            want -= share
            shares.append((one, share))
        return [(one, share) for one, share in shares if share]

    async def _ask(self, channel: Channel, plan: Sequence[tuple[Physical, int]]) -> None:
        left = sum(times for _, times in plan)
        done: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()

        def answered(physical: Physical, reply: Reply | Ended) -> None:
            nonlocal left
            left -= 1
            if isinstance(reply, Arrived):
                self._depths[physical.name] = reply.left
                self._admit(physical, reply)
            else:
                self._depths[physical.name] = 0
            if not done.done() and (not left or isinstance(reply, Ended)):
                done.set_result(reply if isinstance(reply, Ended) else None)

        for physical in (physical for physical, times in plan for _ in range(times)):
            channel.post(partial(answered, physical), "basic.get", 0, physical.name, False)
        why = await done
        if why is not None:
            raise type(why)(why.text, why.code)


class Reader:
    """What one consumer takes with; see :class:`tranship.driver.Reader`. What it took is its own as long as its channel
    lives.

    Args:
        ctx: of the backend.
        connection: what it takes over.
    """

    def __init__(self, ctx: Context, connection: RabbitConnection) -> None:
        self._ctx, self._connection, self._link = ctx, connection, connection.consuming
        self._is_classic = ctx.options.queue_type == "classic"
        self._watch = Watch(self._link, self._pushed, self._deleted, quorum=not self._is_classic)
        self._arrivals = Arrivals()
        self._uncounted: list[Taken] = []
        """Delivered before, to somebody who is gone, and not counted: classic queues only say that much."""
        self._fetcher = Fetcher(self._arrivals, self._admit, lambda: bool(self._uncounted))
        self._channel: Channel | None = None
        self._slots: list[Slot] = []
        self._levels: list[list[Physical]] = []
        self._wanted: list[Physical] = []
        self._declared: set[str] = set()
        self._arrival = asyncio.Event()
        self._credit = 1
        self._demanded: Sequence[Slot] | None = None
        self._taking = False

    def demand(self, slots: Sequence[Slot], credit: int) -> None:
        """Let messages come while something is taken; with 0, none. A take that waits for other slots returns."""
        self._credit, self._demanded = credit, slots
        if not credit:
            self._stop()
        if not credit or slots != self._slots:
            self._arrival.set()

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Fetch, or wait to be woken. What is fetched too much stays here: whoever asks next may get something more
        urgent.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        self._taking = True
        try:
            batch = await self._take(slots, limit, asyncio.get_running_loop().time() + wait)
        except (Ended, TranshipError) as why:
            error = why if isinstance(why, TranshipError) else self._explained(why, slots)
            # What worked before will work again when somebody has mended it: no reason for a worker to give up.
            worked = {self._ctx.names.place(*slot)[0] for slot in slots} & self._ctx.worked
            raise (retryable(error) if worked else error) from why
        finally:
            self._taking = False
        return batch

    async def aclose(self) -> None:
        """Give back what is here, and close the channel: what else has not ended on it goes back to its queues."""
        await self._connection.queue.end([Ending(one.token, End.RELEASE) for one in self._arrivals.clear()])
        channel, self._channel = self._channel, None
        if channel is not None and channel.ended is None:
            await self._link.bounded(channel.close(), doing="closing a consumer")

    async def _take(self, slots: Sequence[Slot], limit: int, until: float) -> TakenBatch:
        loop, levels, wanted = asyncio.get_running_loop(), *self._places(slots)
        while True:
            channel = await self._open(wanted)
            self._arrival.clear()
            if not self._credit:
                return TakenBatch([*self._uncounted_too(), *self._arrivals.clear()])
            await self._have_counted(channel, levels, limit)
            if taken := self._arrivals.take(levels, limit):
                return TakenBatch(taken)
            left = until - loop.time()
            if left <= 0 or self._demanded not in (None, self._slots):
                return TakenBatch(confirmed=self._is_heard(channel))
            if not self._watch.covers(wanted):
                await self._watch.start(channel, wanted, limit)
            await self._woken(left)

    def _places(self, slots: Sequence[Slot]) -> tuple[list[list[Physical]], list[Physical]]:
        if slots != self._slots:
            self._slots, self._levels = list(slots), self._ctx.names.levels(slots)
            self._wanted = [one for queues in self._levels for one in queues]
        return self._levels, self._wanted

    async def _have_counted(self, channel: Channel, levels: Sequence[Sequence[Physical]], limit: int) -> None:
        """Fetch, unless what comes is pushed; what nobody has counted goes back, counted, before that."""
        if not self._watch.covers(self._wanted):
            await self._fetch(channel, levels, limit)
        elif self._uncounted:
            await self._shielded(self._count())

    async def _fetch(self, channel: Channel, levels: Sequence[Sequence[Physical]], limit: int) -> None:
        while True:
            await self._link.bounded(self._fetcher.fetch(channel, levels, limit), doing=DOING)
            if not self._uncounted:
                return
            await self._shielded(self._count())

    async def _woken(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._arrival.wait()
        except TimeoutError:
            return

    async def _open(self, wanted: Sequence[Physical]) -> Channel:
        """Have the queues, and a channel."""
        await self._link.open()
        if self._channel is None or self._channel.ended is not None:
            self._declared.clear()
        missing = [one for one in wanted if one.name not in self._declared]
        for physical in missing:
            await self._connection.topology.have(physical)
        if missing:
            await self._ctx.queue_names.enter({one.queue for one in missing})
            self._declared.update(one.name for one in missing)
        if self._channel is None or self._channel.ended is not None:
            # What was taken over an earlier channel is somebody else's.
            self._arrivals.clear()
            self._uncounted.clear()
            self._fetcher.forget()
            self._watch.lost()
            self._channel = await self._link.channel()
            self._channel.on_ended = lambda _why: self._arrival.set()
        return self._channel

    def _is_heard(self, channel: Channel) -> bool:
        """Whether the server has said anything lately: silence is not emptiness."""
        wire, options = channel.wire, self._ctx.options
        beat = options.heartbeat or options.command_timeout
        return wire.ended is None and asyncio.get_running_loop().time() - wire.heard_at <= beat

    def _explained(self, why: Ended, slots: Sequence[Slot]) -> TranshipError:
        if is_missing(why):
            # It is declared again by the next take.
            for slot in slots:
                self._connection.topology.forget(self._ctx.names.place(*slot)[0])
        error = error_of(why, doing=DOING)
        return retryable(error) if why.code in (404, 406) else error

    # What arrives.

    def _admit(self, physical: Physical, arrived: Arrived) -> None:
        if self._channel is None:
            return
        ctx = self._ctx
        taken = taken_of(
            self._channel, arrived, physical, tables=ctx.tables, names=ctx.names, settled=self._watch.settled
        )
        if arrived.redelivered and self._is_classic:
            self._uncounted.append(taken)
        else:
            self._arrivals.put(physical.name, taken)

    def _pushed(self, physical: Physical, arrived: Arrived) -> None:
        self._admit(physical, arrived)
        self._arrival.set()
        if not self._taking:
            # More than there is room for: from now on only what is asked for.
            self._stop()
        if not self._credit:
            for taken in self._arrivals.clear():
                self._connection.queue.release_late(taken)

    def _stop(self) -> None:
        if self._channel is not None:
            self._watch.stop(self._channel)

    def _deleted(self, physical: Physical) -> None:
        log.warning("queue %r has been deleted; it is declared again", physical.name)
        self._connection.topology.forget(physical.name)
        self._declared.discard(physical.name)
        self._arrival.set()

    # What nobody has counted.

    def _uncounted_too(self) -> list[Taken]:
        """Take what goes back as it came: who gets it next finds it marked once more, and counts it."""
        taken, self._uncounted = self._uncounted, []
        for one in taken:
            one.token.aside = True
        return taken

    async def _count(self) -> None:
        """Put the delivery that nobody counted on the record: a copy with it goes to the queue, then the original.

        Raises:
            BrokerUnreachable, SubmitUnknown, EncodeError: what was not copied is still to be counted.
        """
        taken, self._uncounted = self._uncounted, []
        tokens: list[DeliveryToken] = [one.token for one in taken]
        try:
            await self._connection.queue.copied(tokens, counted=True)
        except StorageFull:
            # A server that takes no copies is helped by consuming: they run with what is known.
            for one in taken:
                if one.token.ours:
                    one.delivery_count += 1
                    self._arrivals.put(one.token.physical.name, one)
        except BaseException:
            self._uncounted += [one for one in taken if one.token.ours]
            raise
        for token in tokens:
            if token.done:
                self._fetcher.deepen(token.physical.name)

    @staticmethod
    async def _shielded(work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns. Cancelled, it is seen through: a copy without its original's end would be there
        twice.
        """
        task = asyncio.get_running_loop().create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=PATIENCE)
            task.cancel()
            raise
