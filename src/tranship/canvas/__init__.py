"""Celery's canvas as plans: which tasks follow one that has ended, and which chords they belong to.

Plans do no I/O. A worker carries a plan out before it settles what has ended, so that each step is sent
however often workers die in between; a step's id is fixed when the plan is made, so that it runs once all the same.
"""

from __future__ import annotations

from tranship.canvas._after import After, Failed, after_failure, after_success
from tranship.canvas._body import after_chord, after_lost_chord
from tranship.canvas._counting import chords_of
from tranship.canvas._embed import Embed
from tranship.canvas._expand import Expander
from tranship.canvas._plan import Ended, Fate, Plan
from tranship.canvas._record_chords import RecordChords

__all__ = [
    "After",
    "Embed",
    "Ended",
    "Expander",
    "Failed",
    "Fate",
    "Plan",
    "RecordChords",
    "after_chord",
    "after_failure",
    "after_lost_chord",
    "after_success",
    "chords_of",
]
