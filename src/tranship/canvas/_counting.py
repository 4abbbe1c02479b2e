"""What counts the members of chords, wherever results are kept."""

from __future__ import annotations

from tranship.canvas._record_chords import RecordChords
from tranship.ports import Backend, ChordStore, own_chords_of, records_of

__all__ = ["chords_of"]


def chords_of(store: Backend) -> ChordStore | None:
    """Return what counts the members of chords: as the store's other users do, or in records of ours; None: nothing.

    Args:
        store: where results are kept.
    """
    if (own := own_chords_of(store)) is not None:
        return own
    records = records_of(store)
    return None if records is None else RecordChords(records)
