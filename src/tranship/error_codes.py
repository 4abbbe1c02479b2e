"""Codes that a handler gives to its failures, and which of them end a task: for ``TaskError(..., code=...)``.

They are those of the Avtomatika worker SDK, with the meaning that its orchestrator gives them. A code of your own may
be any other text; its failure may be tried again unless it says ``retryable=False``.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CONTRACT_VIOLATION_ERROR",
    "DEPENDENCY_ERROR",
    "DEPENDENCY_MISSING_ERROR",
    "FINAL_CODES",
    "INTEGRITY_MISMATCH_ERROR",
    "INTERNAL_ERROR",
    "INVALID_INPUT_ERROR",
    "PERMANENT_ERROR",
    "RESOURCE_EXHAUSTED_ERROR",
    "SECURITY_ERROR",
    "TIMEOUT_ERROR",
    "TRANSIENT_ERROR",
]

TRANSIENT_ERROR: Final = "TRANSIENT_ERROR"
"""It may be over soon: a network failure, a service that is away."""
RESOURCE_EXHAUSTED_ERROR: Final = "RESOURCE_EXHAUSTED_ERROR"
"""Memory, disk, a quota is used up for now."""
DEPENDENCY_MISSING_ERROR: Final = "DEPENDENCY_MISSING_ERROR"
"""This worker lacks something, such as a model, that another one may have."""
TIMEOUT_ERROR: Final = "TIMEOUT_ERROR"
"""Something took too long."""
INTERNAL_ERROR: Final = "INTERNAL_ERROR"
"""The worker itself failed."""
PERMANENT_ERROR: Final = "PERMANENT_ERROR"
"""It will not get better: a corrupted file."""
INVALID_INPUT_ERROR: Final = "INVALID_INPUT_ERROR"
"""The arguments are wrong."""
INTEGRITY_MISMATCH_ERROR: Final = "INTEGRITY_MISMATCH_ERROR"
"""Data is not what its checksum or its size says."""
DEPENDENCY_ERROR: Final = "DEPENDENCY_ERROR"
"""Something that the task builds upon is wrong."""
CONTRACT_VIOLATION_ERROR: Final = "CONTRACT_VIOLATION_ERROR"
"""The result is not what was agreed upon."""
SECURITY_ERROR: Final = "SECURITY_ERROR"
"""It is not allowed."""

FINAL_CODES: Final = frozenset(
    {
        CONTRACT_VIOLATION_ERROR,
        DEPENDENCY_ERROR,
        INTEGRITY_MISMATCH_ERROR,
        INVALID_INPUT_ERROR,
        PERMANENT_ERROR,
        SECURITY_ERROR,
    }
)
"""A failure with one of these is not tried again, unless it says ``retryable=True``."""
