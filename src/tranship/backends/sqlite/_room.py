"""How much room the disk has left, and what may still be written when it is little.

What is in the write-ahead log is written a second time, into the database, before the log can be cut back. A log that
has filled the disk can therefore never be moved, not even when tasks are finished or somebody frees some space: the log
has to stay smaller than what is free, and new tasks have to end before the room for finishing the old ones does.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from tranship.errors import StorageFull

__all__ = ["Room"]

LITTLE: Final = 64 * 1024 * 1024
"""With less than this free the disk is looked at before each commit; otherwise with each checkpoint and upkeep."""
FLOOR: Final = 512 * 1024
"""Bytes that are kept free for claims and settlements, beside what moving the log needs."""


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
