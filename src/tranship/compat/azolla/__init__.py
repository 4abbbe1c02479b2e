"""What Azolla's Python client offers, over any broker: ``from tranship.compat.azolla import azolla_task, Client``.

An orchestrator's endpoint is the URL of a broker here, a domain is a namespace, a shepherd group is a queue. The names
are in the modules where Azolla has them: ``azolla.retry`` is :mod:`tranship.compat.azolla.retry`, and so on.
"""

from tranship.compat.azolla.client import Client, ClientBuilder, ClientConfig, TaskHandle, TaskSubmissionBuilder
from tranship.compat.azolla.exceptions import (
    AzollaConnectionError,
    AzollaError,
    ConnectionError,  # noqa: A004 - Azolla's own name
    ResourceError,
    SerializationError,
    TaskError,
    TaskTimeoutError,
    TaskValidationError,
    ValidationError,
    WorkerError,
)
from tranship.compat.azolla.retry import ExponentialBackoff, FixedBackoff, LinearBackoff, RetryPolicy
from tranship.compat.azolla.task import Task, azolla_task
from tranship.compat.azolla.types import ErrorInfo, TaskResult, TaskStatus
from tranship.compat.azolla.worker import (
    TaskExecutionOutcome,
    Worker,
    WorkerBuilder,
    WorkerExecution,
    WorkerInvocation,
)

__all__ = [
    "AzollaConnectionError",
    "AzollaError",
    "Client",
    "ClientBuilder",
    "ClientConfig",
    "ConnectionError",
    "ErrorInfo",
    "ExponentialBackoff",
    "FixedBackoff",
    "LinearBackoff",
    "ResourceError",
    "RetryPolicy",
    "SerializationError",
    "Task",
    "TaskError",
    "TaskExecutionOutcome",
    "TaskHandle",
    "TaskResult",
    "TaskStatus",
    "TaskSubmissionBuilder",
    "TaskTimeoutError",
    "TaskValidationError",
    "ValidationError",
    "Worker",
    "WorkerBuilder",
    "WorkerError",
    "WorkerExecution",
    "WorkerInvocation",
    "azolla_task",
]
