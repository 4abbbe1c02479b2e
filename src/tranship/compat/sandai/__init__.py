"""Clients for operators of the Sandai SDK, in the shape of ``sandai-operator-client``, over any broker.

``from tranship.compat.sandai import create_client`` in place of ``from sandai.operator_client import create_client``
is all that changes; ``sandai.operator_client.exceptions`` is :mod:`tranship.compat.sandai.exceptions`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tranship.compat.sandai._async_client import AsyncOperatorClient
from tranship.compat.sandai._client import OperatorClient
from tranship.compat.sandai._handles import AsyncResult, AsyncSubmittedTask, AsyncTaskHandle, SubmittedTask
from tranship.compat.sandai._shapes import (
    BatchTaskResult,
    ErrorInfoDict,
    HealthCheckResult,
    InputArtifactDict,
    LegacyBatchTasks,
    LegacyTaskResult,
    OperatorDescription,
    OperatorTaskResult,
    TaskMetaDict,
    TaskPayloadDict,
)
from tranship.compat.sandai.client import create_async_client, create_client
from tranship.compat.sandai.config import (
    VALID_PRIORITIES,
    CeleryConfig,
    ClientConfig,
    env_bool,
    get_celery_config,
    get_default_celery_config,
    resolve_client_config,
)
from tranship.compat.sandai.exceptions import (
    BatchProcessingError,
    ClientPoolTimeoutError,
    InvalidPriorityError,
    InvalidResultFormatError,
    InvalidTaskStatusError,
    OperatorClosedError,
    OperatorConnectionError,
    OperatorError,
    OperatorSetupError,
    StopException,
    TaskCancelledError,
    TaskDeadlineExceededError,
    TaskExecutionError,
    TaskTimeoutError,
)

if TYPE_CHECKING:
    from tranship.compat.sandai._operator import Operator
    from tranship.compat.sandai._operator_call import OperatorCall

__all__ = [
    "VALID_PRIORITIES",
    "AsyncOperatorClient",
    "AsyncResult",
    "AsyncSubmittedTask",
    "AsyncTaskHandle",
    "BatchProcessingError",
    "BatchTaskResult",
    "CeleryConfig",
    "ClientConfig",
    "ClientPoolTimeoutError",
    "ErrorInfoDict",
    "HealthCheckResult",
    "InputArtifactDict",
    "InvalidPriorityError",
    "InvalidResultFormatError",
    "InvalidTaskStatusError",
    "LegacyBatchTasks",
    "LegacyTaskResult",
    "Operator",
    "OperatorCall",
    "OperatorClient",
    "OperatorClosedError",
    "OperatorConnectionError",
    "OperatorDescription",
    "OperatorError",
    "OperatorSetupError",
    "OperatorTaskResult",
    "StopException",
    "SubmittedTask",
    "TaskCancelledError",
    "TaskDeadlineExceededError",
    "TaskExecutionError",
    "TaskMetaDict",
    "TaskPayloadDict",
    "TaskTimeoutError",
    "create_async_client",
    "create_client",
    "env_bool",
    "get_celery_config",
    "get_default_celery_config",
    "resolve_client_config",
]

_OPERATORS: Final = {"Operator": "_operator", "OperatorCall": "_operator_call"}
"""The operator's side, loaded when it is asked for: a client needs no worker."""


def __getattr__(name: str) -> Any:
    module = _OPERATORS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
