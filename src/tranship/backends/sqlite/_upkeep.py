"""What is done beside the work: the log is moved into the database, what has expired is deleted, room is kept.

What is in the write-ahead log is written a second time, into the database, before the log can be cut back. A log that
has filled the disk can therefore never be moved, not even when tasks are finished or somebody frees some space: the log
has to stay smaller than what is free, and new tasks have to end before the room for finishing the old ones does.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tranship.backends.sqlite._file import Location
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction
from tranship.errors import StorageFull

__all__ = ["ROW", "UPKEEP", "Checkpointer"]

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
LITTLE: Final = 64 * 1024 * 1024
"""With less than this free the disk is looked at before each commit; otherwise with each checkpoint and upkeep."""
FLOOR: Final = 512 * 1024
"""Bytes that are kept free for claims and settlements, beside what moving the log needs."""
BITE: Final = 500
"""Rows of one table deleted at a time."""
PEER_MEMORY: Final = 120.0
"""Seconds after which a peer that gives no sign of life is forgotten; it gives one every 30."""


class Room:
    """The free space beside the database; used by the writer's thread, and by callers whose work is done at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._free = LITTLE
        self.little = False
        """Whether it has to be looked at often."""

    def look(self) -> None:
        """See how much is free; where that cannot be told, there is enough."""
        try:
            self._free = shutil.disk_usage(self._directory).free
        except OSError:
            self._free = LITTLE
        self.little = self._free < LITTLE

    def is_tight(self, log: int) -> bool:
        """Whether a log of ``log`` bytes has to be moved now, for soon it could not be."""
        self.look()
        return log > self._free // 2

    def check(self, path: str, log: int, spare: int) -> None:
        """Return if there is room for new tasks.

        Args:
            path: the database's, for the error.
            log: bytes that have to be moved.
            spare: bytes in the database that nothing is in, which new tasks may take.

        Raises:
            StorageFull: what is free is needed for moving the log and for finishing what is there.
        """
        self.look()
        if self._free + spare < log + FLOOR or self._free < FLOOR // 4:
            raise StorageFull(
                f"the database {path} has {self._free // 1024} KiB of room left on its disk, which finishing its tasks "
                "needs; nothing was stored, free some space"
            )


class Checkpointer:
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


def _upkeep(tx: Transaction, arguments: Sequence[None]) -> list[bool]:
    """Delete a few hundred things that have expired, of any namespace, and give freed pages back.

    Returns:
        Whether there may be more, to be deleted soon: or what expires faster than this would grow for ever.
    """
    counts = [
        tx.run(
            f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE expires<=? LIMIT ?)",  # noqa: S608 - names
            *(tx.now, BITE),
        )
        for table in ("row", "signal")
    ]
    tx.run("DELETE FROM peer WHERE seen<=?", tx.now - PEER_MEMORY)
    tx.rows("PRAGMA incremental_vacuum(256)")
    return [max(counts) == BITE for _ in arguments]


UPKEEP: Final = Kind("upkeep", _upkeep, Mode.SOFT)
