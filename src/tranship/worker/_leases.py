"""Keeping leases: a heartbeat extends what is held, for as long as it is held."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from tranship.errors import TranshipError
from tranship.ports import Consumer, Delivery
from tranship.worker._record import Run, Stop

__all__ = ["Leases"]

log = logging.getLogger("tranship.worker")

ASKING: Final = 1.0
"""Seconds after which a backend whose leases are its connections is asked whether they still hold."""
AGAIN: Final = 0.25
"""Part of the usual time after which a renewal that failed is asked for again, counted from when that one began."""


class Leases:
    """The deliveries this worker holds, from receiving until settled.

    Whether a lease still holds is decided by the monotonic clock from the last confirmed renewal, unless
    the broker itself refuses stale settlements (``fenced``). What is lost is told to ``stop``.
    """

    def __init__(self, lease: float | None, *, fenced: bool, stop: Callable[[Run, Stop], None]) -> None:
        self._stop = stop
        self._lease = lease
        self._fenced = fenced
        self._interval = ASKING if lease is None else lease / 3
        self._due = asyncio.Event()
        self._held: dict[Delivery, Run] = {}
        self._renewed: dict[Delivery, float] = {}

    def __len__(self) -> int:
        """How many deliveries are held."""
        return len(self._held)

    def uses(self, consumer: Consumer) -> bool:
        """Whether something is held that came from ``consumer``."""
        return any(run.consumer is consumer for run in self._held.values())

    def hold(self, run: Run, received_at: float) -> None:
        """Keep the lease of ``run`` from now on; ``received_at`` is monotonic seconds before the broker gave it."""
        self._held[run.delivery] = run
        self._renewed[run.delivery] = received_at

    def drop(self, run: Run) -> None:
        """The delivery has been settled, or is not ours any more."""
        self._held.pop(run.delivery, None)
        self._renewed.pop(run.delivery, None)

    def ours(self, run: Run) -> bool:
        """Whether ``run`` may still be settled, as far as can be known without asking."""
        lease = self._lease
        if self._fenced or lease is None:
            return True
        renewed = self._renewed.get(run.delivery)
        # A tenth of the lease is left for the settlement's own way to the broker.
        return renewed is not None and time.monotonic() < renewed + lease * 0.9

    def look(self) -> None:
        """The connection has changed: see at once what is still ours, where that is what leases depend on."""
        if self._lease is None:
            self._due.set()

    async def keep(self) -> None:
        """Renew everything held three times per lease; where the lease is the connection, ask whether it holds. Runs
        until cancelled.

        What an answer takes does not make the next renewal late, and after one that failed there is still time for
        another.
        """
        wait = self._interval
        while True:
            await self._until_due(wait)
            began = time.monotonic()
            consumers = {run.consumer for run in self._held.values()}
            answered = all(await asyncio.gather(*map(self._renew, consumers)))
            next_one = began + (self._interval if answered else self._interval * AGAIN)
            wait = max(0.0, next_one - time.monotonic())

    @property
    def _why_lost(self) -> str:
        return "its connection was lost" if self._lease is None else "its lease ended before it was renewed"

    async def _until_due(self, wait: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._due.wait()
        self._due.clear()

    async def _renew(self, consumer: Consumer) -> bool:
        """Renew what came from ``consumer``; whether that was answered."""
        deliveries = [delivery for delivery, run in self._held.items() if run.consumer is consumer]
        asked = time.monotonic()
        try:
            # A consumer that does not answer must not keep the others' leases from being renewed.
            async with asyncio.timeout(self._interval):
                answers = await consumer.extend(deliveries)
        except (TranshipError, TimeoutError) as error:
            log.warning("renewing %d leases failed, trying again: %s", len(deliveries), error or "no answer in time")
            return False
        except Exception:
            # A driver's bug must not end the renewing.
            log.exception("the backend's extend failed in an unexpected way")
            return False
        for delivery, ours in zip(deliveries, answers, strict=True):
            run = self._held.get(delivery)
            if run is None:
                continue
            if ours:
                self._renewed[delivery] = asked
            elif run.outcome is None and run.stopped is None:
                log.warning("task %s is not ours any more: %s", run.id, self._why_lost)
                self._stop(run, Stop.LOST)
        return True
