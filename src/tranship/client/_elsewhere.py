"""Delayed tasks of one link that others cancel, where the broker keeps their messages until they are due.

Nothing can be removed there, and no worker meets them before their time: who has submitted them ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

from tranship.client._delayed import Delayed
from tranship.client._onlooking import Onlooking
from tranship.errors import TranshipError
from tranship.ports import Signal, Tombstone

__all__ = ["CancelledElsewhere"]

log = logging.getLogger("tranship.client")

AGAIN: Final = 5.0
"""Seconds between two attempts to hear what others cancel."""


class CancelledElsewhere:
    """On the loop of the link, from when it has submitted the first delayed task.

    Args:
        delayed: its tasks.
        onlooking: hears what is cancelled.
        end: gives tasks the results of cancelled ones.
    """

    def __init__(
        self, delayed: Delayed, onlooking: Onlooking, end: Callable[[Sequence[str]], Coroutine[Any, Any, None]]
    ) -> None:
        self._delayed = delayed
        self._onlooking = onlooking
        self._end = end
        self._here: set[tuple[str, str]] = set()
        """What is being cancelled by the link itself, which ends it and says so: kind and value."""
        self._ending: set[asyncio.Task[None]] = set()
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def aclose(self) -> None:
        """Hear no more, and end what has been heard of."""
        self._listening.cancel()
        await asyncio.gather(*self._ending)

    @contextlib.contextmanager
    def cancelling(self, kind: str, values: Sequence[str]) -> Iterator[None]:
        """Pass over what is heard of these meanwhile."""
        marks = {(kind, value) for value in values}
        self._here |= marks
        try:
            yield
        finally:
            self._here -= marks

    async def _listen(self) -> None:
        while True:
            try:
                await self._onlooking.listen(self._heard)
                return
            except TranshipError as error:
                log.debug("cancels of delayed tasks are not heard, trying again: %s", error)
            await asyncio.sleep(AGAIN)

    def _heard(self, signals: Sequence[Signal]) -> None:
        ended: list[str] = []
        for one in signals:
            if isinstance(one, Tombstone) and (one.kind, one.value) not in self._here:
                ended += self._delayed.take_cancelled(one.kind, [one.value], one.expires)
        if ended:
            job = asyncio.get_running_loop().create_task(self._end(ended))
            self._ending.add(job)
            job.add_done_callback(self._ending.discard)
