"""The consumer: claims, waits for the bell or for what is due, settles, gives back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tranship.checks import invalid, whole
from tranship.errors import ClosedError, TranshipError
from tranship.guards import OneReceiver
from tranship.ports import Delivery, Received, Settled, Settlement, Verdict
from tranship.timers import Sleeper
from tranship_redis._claiming import Claiming
from tranship_redis._claims import Claim, Claims, Found
from tranship_redis._complaints import Complaints
from tranship_redis._context import Context
from tranship_redis._holding import Holding
from tranship_redis._link import Link, Remove
from tranship_redis._pack import pack
from tranship_redis._scripts import Script
from tranship_redis._selection import MANY, Selection
from tranship_redis._settling import Settling
from tranship_redis._wake import Wake
from tranship_redis._wire import Reply

__all__ = ["RedisConsumer"]

log = logging.getLogger("tranship.redis")

_EARLY: Final = Script("early")


@dataclass(frozen=True, slots=True)
class _Desk:
    """What a consumer works with once it is connected."""

    link: Link
    wake: Wake
    claim: Claiming
    holding: Holding
    settling: Settling
    leave: Remove
    """Takes back what it registered with the link."""


class RedisConsumer:
    """Takes messages from ``queues``; see :class:`tranship.ports.Consumer`.

    A claim that was sent cannot be called back, so whatever a cancelled ``receive`` would have brought is given
    back when it comes. Deliveries outlive a lost connection: they can be settled and renewed over the next one.

    Args:
        ctx: the backend's.
        queues: names, in no order.

    Raises:
        InvalidOptionError: a name with a zero character or half a character in it.
    """

    hard_limit = None

    def __init__(self, ctx: Context, queues: Sequence[str]) -> None:
        self._ctx = ctx
        self._queues = tuple(dict.fromkeys(map(_name, queues)))
        self._claims = Claims(ctx)
        self._selection = Selection(ctx, self._queues) if len(self._queues) > MANY else None
        self._desk: _Desk | None = None
        self._turn = 0
        self._alone = OneReceiver()
        self._closed = False
        # Something may have changed since a claim found nothing.
        self._rung = False
        self._sleeper = Sleeper()
        self._due = 0.0
        self._emptied: frozenset[str] = frozenset()
        self._complaints = Complaints(f"{ctx.main.place}: taking from")

    @property
    def lease(self) -> float | None:
        """The option of that name."""
        return self._ctx.options.lease

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Claim what is ready, or wait for it."""
        whole("limit", limit)
        self._check()
        with self._alone:
            queues = tuple(queue for queue in self._queues if queue not in skip) if skip else self._queues
            until = asyncio.get_running_loop().time() + wait
            desk = self._desk or await self._sit_down()
            look = self._look if self._selection is None else self._look_at_some
            looks, known = 0, wait > 0 and self._would_know(desk, queues)
            if wait == 0 and self._selection is not None:
                self._selection.mark_queues(queues)
            while True:
                deliveries = [] if known or not queues else await look(desk, queues, limit)
                if deliveries:
                    return Received(deliveries)
                now = asyncio.get_running_loop().time()
                if now >= until:
                    return Received(())
                known = False
                patience = min(self._due - now, desk.wake.patience(looks)) if queues else until - now
                looks = 0 if await self._sleep(min(until - now, patience)) else looks + 1
                self._check()

    async def receive_early(self, limit: int) -> Received:
        """Make ready what is not due, and claim it: a worker that is faster puts it on the schedule again."""
        whole("limit", limit)
        self._check()
        made = 0
        for queue in self._queues:
            keys = self._ctx.keys
            names = [keys.delayed(queue), keys.delayed_messages(queue), keys.delayed_queues]
            if made < limit:
                made += await self._ctx.main.run(_EARLY, names, [limit - made, keys.list(queue, 0)])
        return await self.receive(limit, 0) if made else Received(())

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries back, not counted."""
        self._check()
        if self._desk is not None:
            await self._desk.holding.release([delivery.token for delivery in deliveries])

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Renew leases."""
        self._check()
        if self._desk is None:
            return [False] * len(deliveries)
        return await self._desk.holding.extend([delivery.token for delivery in deliveries])

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """Store results and end deliveries, each in one step."""
        self._check()
        if self._desk is None or not settlements:
            return [Settled.LOST] * len(settlements)
        try:
            return await self._desk.settling.settle(self._desk.link, settlements)
        finally:
            if back := {queue for one in settlements for queue in _pushed_to(one)}:
                # The server tells everybody but ourselves.
                self._desk.wake.ring(frozenset(self._keys(back)))

    async def aclose(self) -> None:
        """Give back what has not been settled, not counted. Idempotent."""
        self._closed = True
        self._bell()
        self._sleeper.close()
        if self._desk is not None:
            self._desk.leave()
            await self._desk.holding.aclose()

    # Connecting.

    async def _sit_down(self) -> _Desk:
        link = await self._ctx.work()
        self._check()
        wake = self._ctx.wake
        holding = Holding(self._ctx, link, self._claims.id, wake.ring)
        claim = Claiming(self._ctx.keys, link, self._claims, holding, self._heard)
        settling = Settling(self._ctx, self._claims.id, holding.drop)
        wake.hang(self._bell, frozenset(self._keys(self._queues)))
        remove = link.on_up(self._on_up)

        def leave() -> None:
            remove()
            wake.take_down(self._bell)

        self._desk = _Desk(link, wake, claim, holding, settling, leave)
        self._make_known(link)
        return self._desk

    def _keys(self, queues: Iterable[str]) -> Iterator[bytes]:
        for queue in queues:
            for key, _, _ in self._ctx.levels.lists([queue]):
                yield key
            yield self._ctx.keys.delayed(queue)

    async def _on_up(self) -> None:
        if self._desk is not None:
            self._make_known(self._desk.link)
            await self._desk.holding.recover()

    def _make_known(self, link: Link) -> None:
        """Tell inspectors which queues there are; whatever becomes of that, tasks run."""
        with contextlib.suppress(TranshipError):
            link.post(pack(b"SADD", self._ctx.keys.queues, *self._queues), _ignore)

    # Looking and waiting.

    def _would_know(self, desk: _Desk, queues: tuple[str, ...]) -> bool:
        """Whether the last claim took all there was in these queues, and the bell would have rung since."""
        if not desk.wake.tracking or self._rung:
            return False
        return self._emptied == frozenset(queues) if self._selection is None else not self._selection.open

    async def _look(self, desk: _Desk, queues: tuple[str, ...], limit: int) -> Sequence[Delivery]:
        start = self._turn % len(queues)
        self._turn += 1
        # Cancelled on the way, it silences the bell for these queues only, and nobody hears for which.
        self._emptied = frozenset()
        found = await desk.claim(queues[start:] + queues[:start], limit)
        self._due = asyncio.get_running_loop().time() + found.due
        self._emptied = frozenset(queues) if found.emptied else frozenset()
        # Closed meanwhile: what came is given back by aclose, which waited for it.
        self._check()
        if found.promoted:
            desk.wake.ring()
        if found.trouble:
            self._complain(found, queues)
        return found.deliveries

    async def _look_at_some(self, desk: _Desk, queues: tuple[str, ...], limit: int) -> Sequence[Delivery]:
        """The same with many queues: claim from those that may hold something, until something comes."""
        selection, loop = self._selection, asyncio.get_running_loop()
        assert selection is not None
        wanted = frozenset(queues)
        skip = () if len(queues) == len(self._queues) else frozenset(self._queues) - wanted
        selection.refresh(loop.time(), desk.wake.lifetime)
        while (pick := selection.pick(limit, skip, loop.time())) is not None:
            found = await desk.claim(pick, limit)
            self._check()
            if found.promoted:
                desk.wake.ring(frozenset(self._keys(queue.name for queue in pick.schedules)))
            if found.trouble:
                self._complain(found, queues)
            if found.deliveries:
                return found.deliveries
        self._due = selection.due
        self._rung = False
        return ()

    def _complain(self, found: Found, queues: tuple[str, ...]) -> None:
        """Raise when a list of every queue cannot be used; else warn of the keys now and then, and serve the rest."""
        queue_of = {key: queue for key, queue, _ in self._ctx.levels.lists(queues)}
        troubled = {queue_of[key] for key in found.trouble[::2] if key in queue_of}
        if self._selection is not None:
            troubled |= self._selection.troubled
            self._selection.troubled |= troubled
        useless = troubled.issuperset(queues)
        for key, error in self._complaints.errors(found.trouble):
            if useless and not found.deliveries:
                raise error
            self._complaints.warn(key, error)

    def _heard(self, claim: Claim, found: Found) -> None:
        """Take in what a claim says of its lists, before anything that the server says next."""
        if self._selection is None:
            self._rung = self._rung and not found.emptied
        elif claim.pick is not None and found.report is not None:
            self._selection.learn(claim.pick, found.report, asyncio.get_running_loop().time())

    async def _sleep(self, seconds: float) -> bool:
        """Sleep until the bell rings; whether it did."""
        if self._rung:
            return True
        await self._sleeper.sleep(seconds)
        return self._rung

    def _bell(self, keys: Collection[bytes] | None = None) -> None:
        self._rung = True
        if self._selection is not None:
            self._selection.mark(keys)
        self._sleeper.wake()

    # State.

    def _check(self) -> None:
        self._ctx.check()
        if self._closed:
            raise ClosedError("this consumer has been closed; ask the backend for a new one")


def _name(queue: str) -> str:
    try:
        usable = b"\0" not in queue.encode()
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise invalid("queue", queue, "a name without zero characters and half characters")
    return queue


def _pushed_to(settlement: Settlement) -> Iterator[str]:
    """Return the queues that a settlement gives something to."""
    if settlement.verdict in (Verdict.NACK, Verdict.REPLACE):
        yield settlement.delivery.queue
    if settlement.replacement is not None:
        yield settlement.replacement.envelope.queue


def _ignore(_reply: Reply) -> None:
    pass
