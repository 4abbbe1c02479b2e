"""What goes in and what comes out, as types: the shapes that callers of an operator know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

__all__ = [
    "BatchTaskResult",
    "ErrorInfoDict",
    "HealthCheckResult",
    "InputArtifactDict",
    "LegacyBatchTasks",
    "LegacyTaskResult",
    "OperatorDescription",
    "OperatorTaskResult",
    "TaskMetaDict",
    "TaskPayloadDict",
]

LegacyTaskResult = tuple[list[dict[str, Any]], dict[str, Any]]
"""Artifacts and results of one task."""
LegacyBatchTasks = list[tuple[list[dict[str, Any]], dict[str, Any]]]
"""Input artifacts and options of each task of a batch."""


class InputArtifactDict(TypedDict, total=False):
    """One input artifact."""

    uri: str
    slot: str
    meta: dict[str, Any]


TaskMetaDict = TypedDict("TaskMetaDict", {"persistent-output": bool}, total=False)
"""What travels about a task beside its input, under the names that travel."""


class TaskPayloadDict(TypedDict, total=False):
    """What an operator is sent."""

    meta: TaskMetaDict
    artifacts: list[dict[str, Any]]
    options: dict[str, Any]
    deadline: float
    cancel_key: str
    task_type: str


class ErrorInfoDict(TypedDict, total=False):
    """What an operator answers when it fails."""

    error_type: str
    error_message: str
    error_details: dict[str, Any]


@dataclass(frozen=True)
class OperatorTaskResult:
    """The answer to a task that went well."""

    artifacts: list[dict[str, Any]]
    results: dict[str, Any]

    def to_legacy_tuple(self) -> LegacyTaskResult:
        """Artifacts and results."""
        return self.artifacts, self.results


@dataclass(frozen=True)
class OperatorDescription:
    """What an operator says of itself."""

    doc: Any
    options_schema: Any
    results_schema: Any

    def to_dict(self) -> dict[str, Any]:
        """The three as a dictionary: what ``desc`` is."""
        return {"doc": self.doc, "options_schema": self.options_schema, "results_schema": self.results_schema}


@dataclass(frozen=True)
class BatchTaskResult:
    """How one task of a batch ended."""

    index: int
    task_id: str | None
    submitted: bool
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def success(self) -> bool:
        """Whether it was submitted and went well."""
        return self.submitted and self.error is None

    def to_legacy_tuple(self) -> LegacyTaskResult:
        """Artifacts and results; both empty if it failed."""
        return (self.artifacts, self.results) if self.success else ([], {})


@dataclass(frozen=True)
class HealthCheckResult:
    """What a probe found, leg by leg."""

    submit_ok: bool
    """The broker took the task."""
    retrieval_ok: bool
    """A result came back in time."""
    response_ok: bool
    """And it was an operator's envelope."""
    task_id: str | None = None
    error: str | None = None
