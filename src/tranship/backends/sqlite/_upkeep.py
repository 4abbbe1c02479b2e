"""Housekeeping in small bites, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tranship.backends.sqlite._transaction import Kind, Mode, Transaction

__all__ = ["UPKEEP", "WORKER_MEMORY"]

WORKER_MEMORY: Final = 60.0
"""Seconds after which a worker that does not beat is forgotten."""

PEER_MEMORY: Final = 120.0
"""Seconds after which a peer that gives no sign of life is forgotten; it gives one every 30."""


def _upkeep(tx: Transaction, arguments: Sequence[Any]) -> list[None]:
    """Delete a few hundred things that have expired, of any namespace, and give freed pages back."""
    tx.run("DELETE FROM result WHERE seq IN (SELECT seq FROM result WHERE expires<=? LIMIT 500)", tx.now)
    tx.run("DELETE FROM signal WHERE seq IN (SELECT seq FROM signal WHERE expires<=? LIMIT 500)", tx.now)
    old = tx.rows("SELECT ns, key FROM dedup WHERE expires<=? LIMIT 500", tx.now)
    for ns, key in old:
        tx.run("DELETE FROM dedup WHERE ns=? AND key=?", ns, key)
    tx.run("DELETE FROM worker WHERE at<=?", tx.now - WORKER_MEMORY)
    tx.run("DELETE FROM peer WHERE seen<=?", tx.now - PEER_MEMORY)
    tx.rows("PRAGMA incremental_vacuum(256)")
    return [None for _ in arguments]


UPKEEP: Final = Kind("upkeep", _upkeep, Mode.SOFT)
