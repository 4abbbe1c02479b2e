"""Housekeeping in small bites, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tranship.backends.sqlite._transaction import Kind, Mode, Transaction

__all__ = ["UPKEEP", "WORKER_MEMORY"]

WORKER_MEMORY: Final = 60.0
"""Seconds after which a worker that does not beat is forgotten."""

BITE: Final = 500
"""Things of one kind deleted at a time."""

PEER_MEMORY: Final = 120.0
"""Seconds after which a peer that gives no sign of life is forgotten; it gives one every 30."""


def _upkeep(tx: Transaction, arguments: Sequence[Any]) -> list[bool]:
    """Delete a few hundred things that have expired, of any namespace, and give freed pages back.

    Returns:
        Whether there may be more, to be deleted soon: or what expires faster than this would grow for ever.
    """
    counts = [
        tx.run(
            f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE expires<=? LIMIT ?)",  # noqa: S608 - names
            *(tx.now, BITE),
        )
        for table in ("result", "signal")
    ]
    old = tx.rows("SELECT ns, key FROM dedup WHERE expires<=? LIMIT ?", tx.now, BITE)
    for ns, key in old:
        tx.run("DELETE FROM dedup WHERE ns=? AND key=?", ns, key)
    tx.run("DELETE FROM worker WHERE at<=?", tx.now - WORKER_MEMORY)
    tx.run("DELETE FROM peer WHERE seen<=?", tx.now - PEER_MEMORY)
    tx.rows("PRAGMA incremental_vacuum(256)")
    return [max(*counts, len(old)) == BITE for _ in arguments]


UPKEEP: Final = Kind("upkeep", _upkeep, Mode.SOFT)
