"""Objects that have expired are deleted, now and then."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from tranship_objectstore._keys import is_over
from tranship_objectstore._location import Location
from tranship_objectstore._store import ObjectStore

__all__ = ["Sweeper", "sweep"]

log = logging.getLogger("tranship.objectstore")

_AT_ONCE: Final = 500
"""Objects that one request deletes."""
_SORTED: Final = ("s3", "gs", "az")
"""Stores that list their keys in order."""


async def sweep(store: ObjectStore, now: float | None = None) -> int:
    """Delete what has expired below the store's URL, and return how many objects that were.

    Args:
        store: where.
        now: epoch seconds; None: the clock's.

    Raises:
        ObjectStoreError: the store cannot be asked.
    """
    moment = time.time() if now is None else now
    return sum([await _swept(store, store.root.under(folder), moment) for folder in ("claims", "files")])


async def _swept(store: ObjectStore, folder: Location, now: float) -> int:
    gone: list[Location] = []
    done = 0
    async for found in store.below(folder):
        over = is_over(found.location.key[len(folder.key) :].lstrip("/").partition("/")[0], now)
        if over:
            gone.append(found.location)
        elif folder.scheme in _SORTED:
            break  # what follows expires later
        if len(gone) == _AT_ONCE:
            await store.delete(gone)
            done, gone = done + len(gone), []
    await store.delete(gone)
    return done + len(gone)


class Sweeper:
    """Sweeps beside the work of one process.

    Args:
        store: where.
        interval: seconds from one sweep to the next; None: never.
    """

    def __init__(self, store: ObjectStore, interval: float | None) -> None:
        self._store = store
        self._interval = interval
        self._next = 0.0
        self._sweeping: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Begin, where it is time to; called on an event loop."""
        if self._interval is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        try:
            done = await sweep(self._store)
        except Exception as error:  # noqa: BLE001 - it tries again later, and the work goes on
            log.warning("what has expired in %s could not be deleted: %s", self._store.root.uri, error)
        else:
            if done:
                log.info("deleted %d objects in %s that had expired", done, self._store.root.uri)
