"""Error codes, and the types of what a worker is given, under the name of the published package's module."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from tranship.error_codes import (
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
)
from tranship.errors import TaskValidationError

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

Middleware: TypeAlias = Callable[[dict[str, Any], Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Around one call of a handler: given what is known of it, and what calls the next one."""
CapacityChecker: TypeAlias = Callable[[str], bool]
"""Whether a skill could be run now."""


class ParamValidationError(TaskValidationError):
    """The parameters are wrong, and will be wrong the next time."""

    code = INVALID_INPUT_ERROR
