"""Handing tasks over, for all callers of a link."""

from tranship.submission._handover import submitter_of
from tranship.submission._jobs import Answer
from tranship.submission._submission import BATCH, IN_FLIGHT, Submission

__all__ = ["BATCH", "IN_FLIGHT", "Answer", "Submission", "submitter_of"]
