"""Limits by key in the whole fleet: how many tasks run at once, how many start, in which order, shared among whom."""

from tranship.limits._line import LEASE, NEAR, Claim, Standing
from tranship.limits._lines import Lines, held_ids, keeper_of, marks_ids
from tranship.limits._submitting import HandsOver, LinedHandOver

__all__ = [
    "LEASE",
    "NEAR",
    "Claim",
    "HandsOver",
    "LinedHandOver",
    "Lines",
    "Standing",
    "held_ids",
    "keeper_of",
    "marks_ids",
]
