"""What an operator refuses: the class names are the ``error_type`` that clients read."""

from __future__ import annotations

from typing import Any

from tranship.errors import TaskError

__all__ = ["ArtifactsError", "OptionsError", "PayloadError", "ResultsError"]


class _RefusedError(TaskError):
    """Another attempt would end the same way."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, retryable=False, **details)


class PayloadError(_RefusedError):
    """A task that no client of operators sends."""


class OptionsError(_RefusedError):
    """Options that are not what the operator's model wants."""


class ArtifactsError(_RefusedError):
    """Artifacts, sent or returned, that are not what the operator's annotation wants."""


class ResultsError(_RefusedError):
    """Results, returned by the handler, that are not what the operator's model wants."""
