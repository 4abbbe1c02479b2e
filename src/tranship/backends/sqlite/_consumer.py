"""The consumer: looks, waits for the bell or for what is due, claims, settles."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence

from tranship.backends.sqlite._claims import (
    CLAIM,
    EXTEND,
    RELEASE,
    Claim,
    Claimed,
    Handback,
    Renewal,
    Token,
    due_in,
    outlook,
)
from tranship.backends.sqlite._clock import lease_clock
from tranship.backends.sqlite._hub import Hub
from tranship.backends.sqlite._log import ROW
from tranship.backends.sqlite._outcomes import new_result
from tranship.backends.sqlite._peers import TASKS, Wants
from tranship.backends.sqlite._rows import new_task, raw_message
from tranship.backends.sqlite._settling import SETTLE, Ending
from tranship.backends.sqlite._watch import Watch
from tranship.checks import whole
from tranship.envelope import Priority
from tranship.errors import ClosedError, TranshipError
from tranship.guards import OneReceiver
from tranship.ports import Delivery, Received, Settled, Settlement
from tranship.timers import Sleeper

__all__ = ["SqliteConsumer"]

log = logging.getLogger("tranship.sqlite")


class SqliteConsumer:
    """Takes messages from ``queues``; see :class:`tranship.ports.Consumer`.

    Args:
        hub: the backend's.
        watch: the backend's.
        queues: names, in no order.
        closed: called with the consumer when it has been closed.
    """

    hard_limit = None

    def __init__(self, hub: Hub, watch: Watch, queues: Sequence[str], closed: Callable[[SqliteConsumer], None]) -> None:
        self._hub = hub
        self._watch = watch
        self._queues = list(dict.fromkeys(queues))
        self._on_close = closed
        self._turn = 0
        self._held: dict[int, Token] = {}
        self._alone = OneReceiver()
        self._enrolled = self._closed = False
        # Rung, or served to the full last time: claim without looking first.
        self._likely = False
        self._sleeper = Sleeper()
        hub.hears[TASKS].append(self._wake)

    @property
    def lease(self) -> float | None:
        """The option of that name."""
        return self._hub.options.lease

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Claim what is ready, or wait for it."""
        whole("limit", limit)
        with self._alone:
            queues = [queue for queue in self._queues if queue not in skip]
            until = asyncio.get_running_loop().time() + wait
            while True:
                self._check()
                found = await self._look(queues, limit)
                if isinstance(found, list):
                    return Received(found)
                remaining = until - asyncio.get_running_loop().time()
                if remaining <= 0:
                    return Received(())
                # Closed while we looked: nobody would wake us.
                self._check()
                await self._sleep(min(remaining, found))

    async def receive_early(self, limit: int) -> Received:
        """Claim what is not due yet."""
        whole("limit", limit)
        with self._alone:
            self._check()
            if not self._enrolled:
                await self._enroll()
            return Received(await self._claim(self._queues, limit, due=False, early=True))

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give deliveries back, not counted."""
        self._check()
        tokens = [delivery.token for delivery in deliveries]
        if tokens:
            await self._hub.writer.call(RELEASE, Handback(tokens), weight=len(tokens))
            self._let_go(tokens)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Renew leases."""
        self._check()
        if not deliveries:
            return []
        renewal = Renewal([delivery.token for delivery in deliveries], self._hub.options.lease)
        return await self._hub.writer.call(EXTEND, renewal, weight=len(deliveries))

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """Store results and end deliveries, in one transaction."""
        self._check()
        problems = [one.problem for one in settlements]
        answers = iter(await self._settle([one for one, bad in zip(settlements, problems, strict=True) if bad is None]))
        return [next(answers) if bad is None else bad for bad in problems]

    async def _settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        if not settlements:
            return []
        endings = [self._ending(settlement) for settlement in settlements]
        documents = sum(len(ending.result.document) for ending in endings if ending.result is not None)
        weight = max(2 * len(endings), documents // ROW)
        answers = await self._hub.writer.call(SETTLE, endings, weight=weight)
        self._let_go([ending.token for ending in endings])
        return answers

    async def aclose(self) -> None:
        """Give back what has not been settled, not counted. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._hub.hears[TASKS].remove(self._wake)
        self._sleeper.close()
        self._on_close(self)
        self._hub.consumed.pop(id(self), None)
        tokens = list(self._held.values())
        self._held.clear()
        if tokens and self._hub.failure is None:
            try:
                await self._hub.writer.call(RELEASE, Handback(tokens), weight=len(tokens))
            except TranshipError as error:
                # Closing goes on all the same, and the leases end.
                log.warning("%d deliveries could not be given back: %s", len(tokens), error)

    # --- looking and claiming ---

    async def _look(self, queues: Sequence[str], limit: int) -> list[Delivery] | float:
        """Return deliveries, or in how many seconds something will be due."""
        if not queues:
            return float("inf")
        if not self._enrolled:
            await self._enroll()
        if self._likely and (deliveries := await self._claim(queues, limit, due=True)):
            return deliveries
        return await self._look_first(queues, limit)

    async def _look_first(self, queues: Sequence[str], limit: int) -> list[Delivery] | float:
        """The same, with a glance before anything is claimed: most looks of an idle worker find nothing."""
        due = 0.0
        while True:
            found = self._hub.read(outlook(len(queues)), (self._hub.ns, *queues))
            if found is not None:
                ((ready, delayed, leased),) = found
                due = due_in(delayed, leased, now=time.time(), lease_now=lease_clock())
                if not ready and due > 0:
                    return due
            if deliveries := await self._claim(queues, limit, due=due <= 0):
                return deliveries
            self._check()
            if found is None:
                return 0.01

    async def _claim(self, queues: Sequence[str], limit: int, *, due: bool, early: bool = False) -> list[Delivery]:
        start = self._turn % len(queues)
        self._turn += 1
        options = self._hub.options
        order = [*queues[start:], *queues[:start]]
        wanted = Claim(order, limit, self._hub.address, options.lease, options.aging, due, early)
        rows = await self._hub.writer.call(CLAIM, wanted, weight=limit, abandoned=self._hand_back)
        if self._closed:
            self._hand_back(rows)
            return []
        self._likely = len(rows) == limit and not early
        self._held.update((row.seq, (row.seq, row.fence)) for row in rows)
        return [_delivery(row) for row in rows]

    async def _enroll(self) -> None:
        self._hub.consumed[id(self)] = self._queues
        await self._hub.enroll(Wants.TASKS)
        self._watch.want(self._hub)
        self._enrolled = True

    def _hand_back(self, rows: Sequence[Claimed]) -> None:
        if rows:
            self._hub.writer.post(RELEASE, Handback([(row.seq, row.fence) for row in rows]))

    # --- waiting ---

    async def _sleep(self, seconds: float) -> None:
        self._watch.want(self)
        try:
            await self._sleeper.sleep(None if seconds == float("inf") else seconds)
        finally:
            self._watch.leave(self)

    def _wake(self) -> None:
        self._likely = True
        self._sleeper.wake()

    # --- state ---

    def _check(self) -> None:
        self._hub.check()
        if self._closed:
            raise ClosedError("this consumer has been closed; ask the backend for a new one")

    def _let_go(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if self._held.get(token[0]) == token:
                del self._held[token[0]]

    def _ending(self, settlement: Settlement) -> Ending:
        options = self._hub.options
        result, replacement = settlement.result, settlement.replacement
        return Ending(
            settlement.delivery.token,
            settlement.verdict,
            None if result is None else new_result(result, ttl=options.result_ttl),
            None if replacement is None else new_task(replacement, dedup_window=options.dedup_window),
            _storable(settlement.reason),
            _storable(settlement.detail),
        )


def _storable(text: str) -> str:
    """``text``, its lone surrogates spelt out: a bad word in a reason must not keep a message from dying."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _delivery(row: Claimed) -> Delivery:
    return Delivery(
        message=raw_message(*row.body),
        queue=row.queue,
        priority=Priority(row.priority),
        token=(row.seq, row.fence),
        delivery_count=row.deliveries,
    )
