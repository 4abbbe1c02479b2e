"""What counts the members of chords, wherever results are kept."""

from __future__ import annotations

from tranship.canvas._record_chords import RecordChords
from tranship.ports import Backend, Capability, ChordStore, KeepsChords, KeepsRecords

__all__ = ["chords_of"]


def chords_of(store: Backend) -> ChordStore | None:
    """Return what counts the members of chords: as the store's other users do, or in records of ours; None: nothing.

    Args:
        store: where results are kept.
    """
    own = store.chords() if isinstance(store, KeepsChords) else None
    if own is None and isinstance(store, KeepsRecords) and store.capabilities.has(Capability.RECORDS):
        return RecordChords(store.records())
    return own
