"""A consumer at one broker, as long as that broker's backend lives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.ports import Backend, Capability, Delivery, Received, Settled, Settlement
from tranship.routing._fleet import Fleet
from tranship.routing._member import Member

__all__ = ["Held", "Seat", "Settling"]

log = logging.getLogger("tranship.routing")

T = TypeVar("T")
Settling = asyncio.Task[Sequence[Settled | TranshipError]]

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
GRACE: Final = 60.0
"""Seconds beyond two leases for which a settlement is tried again: after that the task is somebody else's."""


@dataclass(slots=True, eq=False)
class Held:
    """The token of a routed delivery: where it came from."""

    seat: Seat
    delivery: Delivery
    """The broker's own."""
    renewed: float
    """Monotonic seconds of the last renewal that was confirmed."""


class Seat:
    """One member's consumer.

    Args:
        fleet: whose member it is.
        member: the broker.
        queues: what is consumed.
    """

    def __init__(self, fleet: Fleet, member: Member, queues: Sequence[str]) -> None:
        self.member = member
        self.backend: Backend = member.backend
        self.consumer = member.backend.consumer(queues)
        self.lease = self.consumer.lease
        self.had = True
        """Whether there was something the last time it was asked."""
        self._fleet = fleet
        self._fenced = member.backend.capabilities.has(Capability.FUSED_SETTLE)
        self.leaving: set[asyncio.Task[Received]] = set()
        """Calls that were taken back and have not ended."""
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether it may be asked: its broker is there, and nothing is on its way from it."""
        return self.member.usable and self.member.backend is self.backend and not self.leaving and not self._closed

    # Receiving.

    def ask(self, limit: int, wait: float, skip: Collection[str]) -> asyncio.Task[Received]:
        """Begin to receive."""
        return self._fleet.background.start(self.consumer.receive(limit, wait, skip=skip))

    def answer(self, call: asyncio.Task[Received]) -> Received | None:
        """What a finished call brought; None: it failed, which is noted."""
        if call.cancelled():
            return None
        error = call.exception()
        if error is None:
            self.member.breaker.worked()
            return call.result()
        if not isinstance(error, TranshipError):
            log.error("receiving from %s failed in an unexpected way", self.member.url, exc_info=error)
            error = BrokerUnreachable(f"receiving from {self.member.url} failed: {error!r}")
        if not self._closed:
            self.member.failed(error, self.backend)
        return None

    def leave(self, call: asyncio.Task[Received]) -> None:
        """Nobody waits for ``call`` any more: what it brings all the same is given back."""
        call.cancel()
        self.leaving.add(call)
        call.add_done_callback(self._left)

    def _left(self, call: asyncio.Task[Received]) -> None:
        self.leaving.discard(call)
        if call.cancelled() or call.exception() is not None or self._closed:
            return
        if deliveries := call.result().deliveries:
            self.give_back(deliveries)

    def give_back(self, deliveries: Sequence[Delivery]) -> asyncio.Task[None]:
        """Release the broker's own deliveries; whether anybody waits for it or not."""
        return self._fleet.background.start(self._give_back(deliveries))

    async def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        try:
            async with asyncio.timeout(self._fleet.options.answer_timeout):
                await self.consumer.release(deliveries)
        except (TranshipError, TimeoutError) as error:
            log.warning("%d tasks of %s come back after their lease: %s", len(deliveries), self.member.url, error)

    def deliver(self, delivery: Delivery, asked: float) -> Delivery:
        """Make the broker's delivery one of the router's."""
        return Delivery(
            delivery.message,
            delivery.queue,
            delivery.priority,
            Held(self, delivery, asked),
            delivery.delivery_count,
            delivery.count_kind,
            delivery.generation,
            delivery.scheduled,
        )

    # What becomes of deliveries.

    async def release(self, held: Sequence[Held]) -> None:
        """Give them back; raises what the broker says, and BrokerUnreachable when it says nothing in time."""
        await self._bounded(self.consumer.release([one.delivery for one in held]))

    async def extend(self, held: Sequence[Held]) -> Sequence[bool]:
        """Renew leases. Where the broker does not answer, the clock does."""
        asked = time.monotonic()
        try:
            answers: Sequence[bool] = await self._bounded(self.consumer.extend([one.delivery for one in held]))
        except ClosedError:
            if self._replaced:
                # As for settling: nothing of it can be.
                return [False] * len(held)
            raise
        except TranshipError as error:
            log.warning("renewing %d leases at %s failed: %s", len(held), self.member.url, error)
            return [self._may_be_ours(one) for one in held]
        for one, ours in zip(held, answers, strict=True):
            if ours:
                one.renewed = asked
        return answers

    def _may_be_ours(self, one: Held) -> bool:
        if self._fenced:
            # The broker itself refuses what is not ours any more.
            return True
        return self.lease is None or time.monotonic() < one.renewed + self.lease * 0.9

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled | TranshipError]:
        """Settle the broker's own deliveries, once, and say what became of each; a backend that was replaced has lost
        them.
        """
        try:
            return await self.consumer.settle(settlements)
        except ClosedError as error:
            return [Settled.LOST if self._replaced else error] * len(settlements)
        except TranshipError as error:
            return [error] * len(settlements)

    @property
    def _replaced(self) -> bool:
        return not self._closed and self.member.backend is not self.backend

    async def settle_later(
        self, settlements: Sequence[Settlement], call: Settling | None, error: TranshipError
    ) -> None:
        """Settle what the broker did not answer for, for as long as it may be ours.

        Args:
            settlements: of the broker's own deliveries.
            call: settles them, and has not been answered; None: it has, with errors.
            error: why they are not settled.
        """
        log.warning("%d tasks are settled as soon as %s is back: %s", len(settlements), self.member.url, error)
        end = time.monotonic() + GRACE + 2 * (self.lease or 0.0)
        pause, left = FIRST_PAUSE, settlements
        while time.monotonic() < end:
            if call is not None:
                await asyncio.wait({call}, timeout=end - time.monotonic())
                left = self._open(left, call) if call.done() else left
            if not left:
                return
            await self._fleet.until(lambda: self.member.usable, pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            call = self._fleet.background.start(self.settle(left))
        log.error("%d tasks of %s could not be settled in time; they come again", len(left), self.member.url)

    def _open(self, settlements: Sequence[Settlement], call: Settling) -> Sequence[Settlement]:
        """Return those that may be settled yet, after a call has ended."""
        if call.cancelled():
            return ()
        if (bug := call.exception()) is not None:
            log.error("%d tasks of %s could not be settled: %s", len(settlements), self.member.url, bug)
            return ()
        answers = list(zip(settlements, call.result(), strict=True))
        errors = [(one, answer) for one, answer in answers if isinstance(answer, TranshipError)]
        for _, error in errors:
            if not error.retryable:
                log.error("a task of %s could not be settled: %s", self.member.url, error)
        return [one for one, error in errors if error.retryable]

    async def aclose(self) -> None:
        """Close the consumer, within bounds."""
        self._closed = True
        try:
            await self._bounded(self.consumer.aclose())
        except TranshipError as error:
            log.debug("closing a consumer of %s failed: %s", self.member.url, error)

    async def _bounded(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._fleet.options.answer_timeout):
                return await work
        except TimeoutError as error:
            silent = self.member.silent()
            self.member.failed(silent, self.backend)
            raise silent from error
        except TranshipError as error:
            if not self._closed:
                self.member.failed(error, self.backend)
            raise
