"""When to move the write-ahead log into the database, and how much housekeeping is due."""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import Final

from tranship.backends.sqlite._location import Location
from tranship.backends.sqlite._room import Room

__all__ = ["LogKeeper"]

log = logging.getLogger("tranship.sqlite")

PAGE: Final = 4096
ROW: Final = 2048
"""Bytes of the log per unit of weight: a small row; larger ones weigh more."""
SMALL: Final = 4 * 1024 * 1024
"""About how much this process writes between two checkpoints: small and often keeps the log short."""
BUSY: Final = 24 * 1024 * 1024
"""The same while work is waiting: a burst is answered first, and pages that it writes again are moved once."""
LARGE: Final = 64 * 1024 * 1024
"""A log above this is cut back as soon as nobody reads the old part."""
UPKEEP_EVERY: Final = 10.0
UPKEEP_AGAIN: Final = 0.1
"""Seconds between two bites of housekeeping while there is more to do."""
READERS: Final = 100
"""Milliseconds for which cutting the log waits for readers, while every process waits for us."""
IDLE: Final = 1.0
"""Seconds without work after which the log is moved."""


class LogKeeper:
    """Counts what this process has written; used by the writer's thread only.

    SQLite's Python module does not tell how long the log is, and its file does not shrink, so that the amount
    is estimated: a commit writes six pages or so, and a row one or two more.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self.room = Room(location.path.parent)
        self._estimate = 0
        self._upkeep_at = time.monotonic() + UPKEEP_EVERY
        self._warned = False

    def wrote(self, rows: int) -> None:
        """Note a commit of about so many rows."""
        self._estimate += 5 * PAGE + rows * ROW

    def checkpoint_due(self, *, busy: bool) -> bool:
        """Whether this process has written enough; more than that while callers wait for what comes next."""
        if self.room.little:
            return (size := self._size()) > PAGE and (size > SMALL or self.room.is_tight(size))
        return self._estimate >= (BUSY if busy else SMALL)

    def idle_checkpoint_due(self) -> bool:
        """Whether there is something to move, or a log to cut back, while nobody waits."""
        return self._estimate > 0 or self.is_long()

    def is_long(self) -> bool:
        """Whether the log's file is longer than it should stay: it keeps the length of a burst, whoever wrote it."""
        return self._size() > SMALL

    def check_room(self, connection: sqlite3.Connection) -> None:
        """Return if there is room for new tasks.

        Raises:
            StorageFull: there is not.
        """
        ((pages,),) = connection.execute("PRAGMA freelist_count").fetchall()
        self.room.check(str(self._location.path), self._size(), pages * PAGE)

    def patience(self) -> float:
        """How long the writer may sleep before there is something to do here."""
        upkeep = max(0.0, self._upkeep_at - time.monotonic())
        return min(IDLE, upkeep) if self._estimate else upkeep

    def upkeep_due(self) -> bool:
        """Whether the last housekeeping is a while ago."""
        return time.monotonic() >= self._upkeep_at

    def upkept(self, *, more: bool = False) -> None:
        """Note that housekeeping has been done, or that there is more of it."""
        self._upkeep_at = time.monotonic() + (UPKEEP_AGAIN if more else UPKEEP_EVERY)
        self.room.look()

    def checkpoint(self, connection: sqlite3.Connection, *, truncate: bool) -> None:
        """Move the log into the database; under the side lock."""
        self._estimate = 0
        size = self._size()
        # Truncating waits for readers, so that it is kept for idle moments, and for logs that got out of hand or are
        # larger than what is free.
        if (truncate and size > SMALL) or size > LARGE or self.room.little:
            self._cut(connection, size)
        else:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            # The file keeps its length: to be cut back in the next idle moment.
            self._estimate = 0 if truncate or size <= SMALL else 1
        self.room.look()

    def _cut(self, connection: sqlite3.Connection, size: int) -> None:
        ((patience,),) = connection.execute("PRAGMA busy_timeout").fetchall()
        connection.execute(f"PRAGMA busy_timeout={READERS}").fetchall()
        try:
            ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.execute(f"PRAGMA busy_timeout={patience}").fetchall()
        if busy and size > LARGE and not self._warned:
            self._warned = True
            log.warning(
                "the log %s has grown to %d MB and cannot be cut back: some program keeps a read transaction open",
                self._location.wal_path,
                size // 1024 // 1024,
            )

    def _size(self) -> int:
        try:
            return self._location.wal_path.stat().st_size
        except OSError:
            return 0
