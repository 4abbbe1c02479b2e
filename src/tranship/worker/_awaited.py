"""Tasks that wait for an event, between two looks for it: they keep no slot, and hear of the event at once.

A task that waits goes back on the broker's schedule, which knows nothing of events. So it is held here for a moment, as
a delivery that has ended and is not settled yet, until the event is told or it is time to look for it again. More than
a worker holds, and what it holds when it stops, is on the schedule meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tranship.errors import TranshipError
from tranship.ports import Records, Tombstone
from tranship.steps import event_topic
from tranship.worker._cancels import hits
from tranship.worker._record import Run

__all__ = ["AwaitedEvents"]

log = logging.getLogger("tranship.worker")

MOST: Final = 1000
"""Tasks that are held at once."""
LONGEST: Final = 20.0
"""Seconds for which one is held at most: a little more than what lies between two looks."""


class AwaitedEvents:
    """Those of one worker at work, on its I/O loop.

    Args:
        records: where events are.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._held: dict[Run, asyncio.Event] = {}
        self._closing = False

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    async def told(self, run: Run, key: str) -> bool:
        """Hold ``run``, which waits for the event with this key, until it is due; whether it is to go on before."""
        if self._closing or run.delay > LONGEST or len(self._held) >= MOST:
            return False
        news = self._held[run] = asyncio.Event()
        try:
            async with asyncio.timeout(run.delay):
                return await self._told(news, key)
        except TimeoutError:
            return False
        except TranshipError as error:
            log.debug("task %s does not hear of its event, and looks for it: %s", run.id, error)
            return False
        finally:
            del self._held[run]

    async def _told(self, news: asyncio.Event, key: str) -> bool:
        end = await self._records.listen(event_topic(key), news.set)
        try:
            # It may have been sent since the task has looked.
            (found,) = await self._records.read([key])
            if found is None:
                await news.wait()
            return not self._closing
        finally:
            end()

    def cancelled(self, tombstone: Tombstone) -> None:
        """Let those go on that ``tombstone`` is for: they end when they come again."""
        for run, news in self._held.items():
            if run.envelope is not None and hits(tombstone, run.envelope):
                news.set()

    def close(self) -> None:
        """The worker stops: everything is on the schedule from now on."""
        self._closing = True
        for news in self._held.values():
            news.set()
