"""The shapes that go in and come out, under the module name of ``sandai.operator_client.types``."""

from tranship.compat.sandai._handles import AsyncSubmittedTask, AsyncTaskHandle, SubmittedTask
from tranship.compat.sandai._shapes import (
    BatchTaskResult,
    ErrorInfoDict,
    HealthCheckResult,
    InputArtifactDict,
    OperatorDescription,
    OperatorTaskResult,
    TaskMetaDict,
    TaskPayloadDict,
)

__all__ = [
    "AsyncSubmittedTask",
    "AsyncTaskHandle",
    "BatchTaskResult",
    "ErrorInfoDict",
    "HealthCheckResult",
    "InputArtifactDict",
    "OperatorDescription",
    "OperatorTaskResult",
    "SubmittedTask",
    "TaskMetaDict",
    "TaskPayloadDict",
]
