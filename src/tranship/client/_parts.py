"""What a task tells while it runs, as its client reads it: progress, and one part after the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from tranship.client._gather import ended, unknown_timeout, wait_timeout
from tranship.client._link import ClientLink
from tranship.envelope import TaskResult
from tranship.errors import BrokerError, StreamRestarted, TranshipError
from tranship.outcomes import Progress
from tranship.parts import decode_parts, decode_progress, parts_prefix, progress_key, run_key
from tranship.ports import Records

__all__ = ["PartReader", "read_progress"]

log = logging.getLogger("tranship.client")

PAGE: Final = 50
"""Records that are read at once."""
AWAY: Final = 0.2
"""Seconds until a store that is away is asked again."""
RECHECK: Final = 5.0
"""Seconds after which is looked without a word that there is something: one may be lost."""


async def read_progress(link: ClientLink, task_id: str) -> Progress | None:
    """Return how far a task is; None: it has not said, or its result store keeps no records."""
    records = link.records_or_none()
    if records is None:
        return None
    (found,) = await records.read([progress_key(task_id)])
    return None if found is None else decode_progress(found.value)


class PartReader:
    """Reads the parts of one task, in order. Everything but making it is on the link's loop.

    Args:
        task_id: the task.
        seconds: how long to wait in all; None: as long as it takes.
        unknown: how long at most, without ``seconds``, until something is known of an id that may be nobody's.
    """

    def __init__(self, task_id: str, seconds: float | None, unknown: float | None) -> None:
        self._id, self._seconds, self._unknown = task_id, seconds, unknown
        self._news = asyncio.Event()
        self._run = ""
        self._after = ""
        self._until: float | None = None
        self._listening: Callable[[], None] | None = None
        self._end: TaskResult | TranshipError | None = None

    async def next(self, link: ClientLink) -> Sequence[Any]:
        """Return the next parts, as soon as there are some; none: the task has ended, see :meth:`ending`.

        Raises:
            UnsupportedError: the result store keeps no records.
            StreamRestarted: the task runs again.
            ResultTimeout: it takes too long. A store that is away is waited for.
        """
        records = link.records()
        if self._until is None and self._listening is None:
            self._until = self._bound(link)
        while True:
            self._news.clear()
            # Looked at before reading: what was told before the end is there by then.
            over, pause = self._end is not None, RECHECK
            try:
                if self._listening is None:
                    await self._begin(link, records)
                if parts := await self._look(records):
                    return parts
                if over:
                    return ()
            except BrokerError as error:
                if not error.retryable:
                    raise
                log.info("reading the parts of task %s failed, trying again: %s", self._id, error)
                pause = AWAY
            await self._wait(link, pause)

    async def close(self, link: ClientLink) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening()
            link.waiting.unwatch([self._id], self._ended)

    def ending(self) -> TaskResult:
        """Return how the task ended.

        Raises:
            TaskNotFound: the store does not know it.
            TranshipError: it cannot be known.
        """
        assert self._end is not None
        if isinstance(self._end, TranshipError):
            raise self._end
        return ended(self._end)

    async def _begin(self, link: ClientLink, records: Records) -> None:
        self._listening = await records.listen(run_key(self._id), self._news.set)
        link.waiting.watch([self._id], self._ended)

    def _bound(self, link: ClientLink) -> float | None:
        bound = self._unknown if self._seconds is None and not link.can_tell else self._seconds
        return None if bound is None else link.loop.time() + bound

    def _ended(self, _task_id: str, found: TaskResult | TranshipError) -> None:
        self._end = found
        self._news.set()

    async def _look(self, records: Records) -> Sequence[Any]:
        if parts := await self._read(records):
            return parts
        await self._follow(records)
        return () if self._after else await self._read(records)

    async def _read(self, records: Records) -> list[Any]:
        """Return the parts behind those that were read, of the run that is followed."""
        if not self._run:
            return []
        page = await records.page(parts_prefix(self._id, self._run), self._after, PAGE)
        if page:
            self._after = page[-1].key
        return [part for record in page for part in decode_parts(record.value)]

    async def _follow(self, records: Records) -> None:
        """See to it that the run which is followed is the one that counts.

        Raises:
            StreamRestarted: it is not, and parts of it were told.
        """
        (found,) = await records.read([run_key(self._id)])
        run = "" if found is None else found.value.decode()
        if run == self._run or not run:
            return
        told, self._run, self._after = bool(self._after), run, ""
        if self._seconds is None:
            # It is known now: however long the next part takes.
            self._until = None
        if told:
            raise StreamRestarted(
                f"task {self._id} runs again, and its parts begin anew: what came before is void. Iterate over the "
                "stream again: it begins with the first part of the run that is under way",
                task_id=self._id,
            )

    async def _wait(self, link: ClientLink, pause: float) -> None:
        """Wait for news, so long at most: there may be some of which the word was lost."""
        left = pause if self._until is None else min(pause, self._until - link.loop.time())
        if left <= 0:
            if self._seconds is None:
                raise unknown_timeout(f"task {self._id}", link.store_name, self._unknown)
            raise wait_timeout(self._id, self._seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._news.wait()
