"""The same as :mod:`tranship.compat.avtomatika.types`, under the name that the document has."""

from __future__ import annotations

from tranship.compat.avtomatika.types import (
    CONTRACT_VIOLATION_ERROR,
    DEPENDENCY_ERROR,
    DEPENDENCY_MISSING_ERROR,
    INTERNAL_ERROR,
    INVALID_INPUT_ERROR,
    PERMANENT_ERROR,
    RESOURCE_EXHAUSTED_ERROR,
    SECURITY_ERROR,
    TIMEOUT_ERROR,
    TRANSIENT_ERROR,
    CapacityChecker,
    Middleware,
    ParamValidationError,
)

__all__ = [
    "CONTRACT_VIOLATION_ERROR",
    "DEPENDENCY_ERROR",
    "DEPENDENCY_MISSING_ERROR",
    "INTERNAL_ERROR",
    "INVALID_INPUT_ERROR",
    "PERMANENT_ERROR",
    "RESOURCE_EXHAUSTED_ERROR",
    "SECURITY_ERROR",
    "TIMEOUT_ERROR",
    "TRANSIENT_ERROR",
    "CapacityChecker",
    "Middleware",
    "ParamValidationError",
]
