"""Republishing what changes its place or its record: a copy is confirmed, then the original goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from tranship.errors import TranshipError
from tranship.ports import Delivery
from tranship_rabbitmq._settling import Settler
from tranship_rabbitmq.amqp.content import Properties

__all__ = ["Republisher"]

log = logging.getLogger("tranship.rabbitmq")

T = TypeVar("T")

_PATIENCE: Final = 2.0
"""Seconds that copies under way may take when their consumer is closed."""


class Republisher:
    """Copies for one consumer, and sees it through whoever is cancelled meanwhile.

    Args:
        settler: copies one, and drops one.
    """

    def __init__(self, settler: Settler) -> None:
        self._settler = settler
        self._jobs: set[asyncio.Task[Any]] = set()

    async def copy(self, deliveries: Sequence[Delivery], properties: Callable[[Delivery], Properties]) -> None:
        """Replace each of ``deliveries`` by a copy with other properties, at the end of its queue.

        A classic queue writes acknowledgements down with the next message that it confirms, or once it has been left
        alone for 200 ms: a server that is killed before has copy and original. So the last copy is made when the
        server has heard that the other originals are gone.

        Raises:
            BrokerUnreachable, StorageFull, SubmitUnknown, EncodeError: some could not be copied; those are not settled.
        """
        first, last = deliveries[:-1], deliveries[-1:]
        if first:
            await self._each(first, properties)
            await self._settler.heard(first)
        await self._each(last, properties)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns. Cancelling this only stops waiting for it."""
        return await asyncio.shield(self._begun(work))

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do ``work`` beside everything else."""
        self._begun(work)

    async def aclose(self) -> None:
        """Return when everything is done, or given up."""
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=_PATIENCE)
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def _each(self, deliveries: Sequence[Delivery], properties: Callable[[Delivery], Properties]) -> None:
        async def copied(one: Delivery) -> None:
            await self._settler.copy(one, properties(one))

        outcomes = await asyncio.gather(*map(copied, deliveries), return_exceptions=True)
        failures = []
        for one, outcome in zip(deliveries, outcomes, strict=True):
            if outcome is None:
                self._settler.drop(one)
            else:
                failures.append(outcome)
        if failures:
            raise failures[0]

    def _begun(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._ended)
        return job

    def _ended(self, job: asyncio.Task[Any]) -> None:
        self._jobs.discard(job)
        if job.cancelled() or (error := job.exception()) is None:
            return
        if isinstance(error, TranshipError):
            # Told to who waits for it, if anybody still does; nothing is lost.
            log.debug("copying messages failed: %s", error)
        else:
            log.error("copying messages failed in an unexpected way", exc_info=error)
