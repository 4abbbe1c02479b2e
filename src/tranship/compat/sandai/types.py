"""The shapes that go in and come out, under the module name of ``sandai.operator_client.types``."""

from tranship.compat.sandai._handles import AsyncTaskHandle
from tranship.compat.sandai._shapes import (
    AsyncSubmittedTask,
    BatchTaskResult,
    ErrorInfoDict,
    HealthCheckResult,
    InputArtifactDict,
    OperatorDescription,
    OperatorTaskResult,
    SubmittedTask,
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
