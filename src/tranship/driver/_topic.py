"""A topic for brokers that have none: rows that live for some seconds, and are looked for. Owns the rows ``t/``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from tranship.driver._nouns import Heard, Row, stamp
from tranship.driver._rows import PAGE, Rows, timed_key
from tranship.driver._supervisor import Supervisor
from tranship.errors import TranshipError

__all__ = ["Subscriptions", "TableTopic"]

log = logging.getLogger("tranship.driver")

LOOK: Final = 0.05
"""Seconds between two looks."""
LATE: Final = 2.0
"""Seconds by which a row may turn up late: clocks differ, and who writes first may be done last."""
KEPT: Final = 10.0
"""Seconds that a row is kept, longer than any reader is held up."""


class Subscriptions:
    """Who hears what, by name. For drivers, too, whose broker sends everything that concerns a connection."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[Heard, ...]] = {}
        self._alone: tuple[Heard, ...] = ()
        """Shared by all names that only one wants to hear: a client waits for thousands of results."""

    def __bool__(self) -> bool:
        return bool(self._heard)

    def add(self, names: Sequence[str], heard: Heard) -> list[str]:
        """Call ``heard`` for ``names``; return those that nobody wanted to hear before."""
        new = [name for name in dict.fromkeys(names) if name not in self._heard]
        if self._alone != (heard,):
            self._alone = (heard,)
        for name in names:
            hearers = self._heard.get(name)
            if hearers is None:
                self._heard[name] = self._alone
            elif heard not in hearers:
                self._heard[name] = (*hearers, heard)
        return new

    def remove(self, names: Sequence[str], heard: Heard) -> list[str]:
        """Call it no more for ``names``; return those that nobody wants to hear any more."""
        gone = []
        for name in names:
            hearers = self._heard.get(name, ())
            if hearers == (heard,):
                del self._heard[name]
                gone.append(name)
            elif heard in hearers:
                self._heard[name] = tuple(one for one in hearers if one != heard)
        return gone

    def tell(self, name: str, value: bytes) -> None:
        """Call everybody who wants to hear ``name``."""
        for heard in self._heard.get(name, ()):
            heard(name, value)


class TableTopic:
    """A :class:`Topic` made of a table; outlives connections.

    Args:
        supervisor: of the backend.
        rows: the table.
    """

    def __init__(self, supervisor: Supervisor, rows: Rows) -> None:
        self._supervisor = supervisor
        self._rows = rows
        self._subscriptions = Subscriptions()
        self._reader: asyncio.Task[None] | None = None
        self._since = 0.0
        self._told: dict[str, None] = {}

    async def publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Write a row for each."""
        now = time.time()
        values = [name.encode() + b"\n" + value for name, value in items]
        await self._rows.create([Row(timed_key("t", now, stamp()), value, KEPT) for value in values])

    def subscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Look for rows with these names from now on."""
        if not self._subscriptions:
            # Not from before: a command that was sent to nobody is for nobody.
            self._since = time.time()
        self._subscriptions.add(names, heard)
        if self._reader is None:
            self._reader = self._supervisor.spawn(self._read())

    def unsubscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Tell ``heard`` no more."""
        self._subscriptions.remove(names, heard)

    async def active(self) -> None:
        """Rows stay: what is published after subscribe() is found."""

    async def _read(self) -> None:
        while True:
            try:
                if self._subscriptions:
                    await self._look()
            except TranshipError as error:
                log.debug("%s: looking for signals: %s; trying again", self._supervisor.url, error)
            except Exception:
                log.exception("%s: looking for signals failed in an unexpected way", self._supervisor.url)
            await asyncio.sleep(LOOK)

    async def _look(self) -> None:
        # From the last look, not from now: while this loop was held up, others went on writing.
        began = time.time()
        async for rows in self._rows.since("t", self._since):
            for row in rows:
                if row.key not in self._told:
                    self._told[row.key] = None
                    name, _, value = row.value.partition(b"\n")
                    self._subscriptions.tell(name.decode(), value)
        self._since = max(self._since, began - LATE)
        while len(self._told) > 20 * PAGE:
            del self._told[next(iter(self._told))]
