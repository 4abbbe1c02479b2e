"""The clients under the module name of ``sandai.operator_client.client``."""

from __future__ import annotations

from typing import Any

from tranship.compat.sandai._async_client import AsyncOperatorClient
from tranship.compat.sandai._client import OperatorClient
from tranship.compat.sandai._handles import AsyncSubmittedTask, AsyncTaskHandle, SubmittedTask
from tranship.compat.sandai._shapes import BatchTaskResult, HealthCheckResult, LegacyBatchTasks, LegacyTaskResult
from tranship.compat.sandai.config import (
    CeleryConfig,
    ClientConfig,
    get_celery_config,
    get_default_celery_config,
    resolve_client_config,
)

__all__ = [
    "AsyncOperatorClient",
    "AsyncSubmittedTask",
    "AsyncTaskHandle",
    "BatchTaskResult",
    "CeleryConfig",
    "ClientConfig",
    "HealthCheckResult",
    "LegacyBatchTasks",
    "LegacyTaskResult",
    "OperatorClient",
    "SubmittedTask",
    "create_async_client",
    "create_client",
    "get_celery_config",
    "get_default_celery_config",
    "resolve_client_config",
]


def create_client(operator_name: str, operator_version: str, **kwargs: Any) -> OperatorClient:
    """Return a blocking client; ``kwargs`` are the arguments of :class:`OperatorClient`.

    Raises:
        InvalidOptionError, InvalidURLError: a value that cannot be used.
    """
    return OperatorClient(operator_name, operator_version, **kwargs)


def create_async_client(operator_name: str, operator_version: str, **kwargs: Any) -> AsyncOperatorClient:
    """Return an asynchronous client; ``kwargs`` are the arguments of :class:`AsyncOperatorClient`.

    Raises:
        InvalidOptionError, InvalidURLError: a value that cannot be used.
    """
    return AsyncOperatorClient(operator_name, operator_version, **kwargs)
