"""What the operator clients raise, as a branch of the core's tree.

::

    OperatorError (TranshipError)
    ├── TaskTimeoutError             nothing came in time (ResultTimeout, TimeoutError)
    ├── TaskExecutionError           the operator failed (TaskFailed)
    ├── TaskDeadlineExceededError    the operator skipped it: too late (DeadlineExceeded)
    ├── TaskCancelledError           the operator skipped it: its cancel key is set (TaskCancelled)
    ├── InvalidTaskStatusError       an answer with a status nobody knows (TaskResultError)
    ├── InvalidResultFormatError     an answer that is no envelope (TaskResultError)
    ├── InvalidPriorityError         no such queue (InvalidOptionError, ValueError)
    ├── OperatorConnectionError      the task could not be handed over (BrokerUnreachable, ConnectionError)
    ├── ClientPoolTimeoutError       no slot became free in time (TimeoutError)
    ├── OperatorClosedError          the client was closed (ClosedError)
    ├── OperatorSetupError           no plugin serves the URL, or the broker lacks what is needed (ConfigurationError)
    ├── StopException                for applications that raise it themselves
    └── BatchProcessingError         for applications that raise it themselves

Everything else that can go wrong is said by the core's own errors: an argument of the wrong type
(:class:`~tranship.errors.InvalidArgumentsError`, a TypeError), a setting outside what is allowed
(:class:`~tranship.errors.InvalidOptionError`, a ValueError), a value that cannot be written
(:class:`~tranship.errors.EncodeError`), and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tranship.errors import (
    BrokerUnreachable,
    ClosedError,
    ConfigurationError,
    DeadlineExceeded,
    InvalidOptionError,
    ResultTimeout,
    TaskCancelled,
    TaskFailed,
    TaskResultError,
    TranshipError,
)

__all__ = [
    "BatchProcessingError",
    "ClientPoolTimeoutError",
    "InvalidPriorityError",
    "InvalidResultFormatError",
    "InvalidTaskStatusError",
    "OperatorClosedError",
    "OperatorConnectionError",
    "OperatorError",
    "OperatorSetupError",
    "StopException",
    "TaskCancelledError",
    "TaskDeadlineExceededError",
    "TaskExecutionError",
    "TaskTimeoutError",
]


class OperatorError(TranshipError):
    """Base of all errors of the operator clients."""


class TaskTimeoutError(OperatorError, ResultTimeout):
    """No result came within ``timeout`` seconds. The task itself may go on."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__(f"no result of task {task_id} within {timeout:g} s", task_id=task_id)
        self.timeout = timeout


class TaskExecutionError(OperatorError, TaskFailed):
    """The operator reported a failure, or failed.

    Attributes:
        error_message: what the operator said.
        error_details: data it added; for a failure outside of the operator's own handling, ``exception_type``.
        error_type: the name of the error at the operator.
        traceback: the remote traceback as text, or None.
    """

    def __init__(
        self,
        task_id: str,
        error_message: str,
        error_details: Mapping[str, Any] | None = None,
        *,
        error_type: str = "",
        traceback: str | None = None,
    ) -> None:
        TaskFailed.__init__(
            self,
            f"task {task_id} failed: {error_message}",
            type=error_type,
            details=error_details,
            traceback=traceback,
            task_id=task_id,
        )
        self.error_message = error_message
        self.error_details: dict[str, Any] = self.details
        self.error_type = error_type


class TaskDeadlineExceededError(OperatorError, DeadlineExceeded):
    """The operator did not begin, because the deadline had passed. Both times are epoch seconds; 0: not said."""

    def __init__(self, task_id: str, deadline: float, current_time: float) -> None:
        super().__init__(
            f"the operator skipped task {task_id}: its deadline {deadline} had passed at {current_time}",
            task_id=task_id,
        )
        self.deadline = deadline
        self.current_time = current_time


class TaskCancelledError(OperatorError, TaskCancelled):
    """The operator did not begin, because the task's ``cancel_key`` was set, or the task had been revoked."""

    def __init__(self, task_id: str, cancel_key: str) -> None:
        super().__init__(
            f"task {task_id} was cancelled" + (f" by its cancel key {cancel_key!r}" if cancel_key else ""),
            task_id=task_id,
        )
        self.cancel_key = cancel_key


class InvalidTaskStatusError(OperatorError, TaskResultError):
    """The answer's ``status`` is neither ``success`` nor ``error``."""

    code = "INVALID_TASK_STATUS"

    def __init__(self, task_id: str, status: str) -> None:
        super().__init__(
            f"task {task_id} was answered with the status {status[:200]!r}; expected 'success' or 'error'",
            task_id=task_id,
        )
        self.status = status


class InvalidResultFormatError(OperatorError, TaskResultError):
    """The answer is no map, or cannot be read at all (``result`` is then None)."""

    code = "INVALID_RESULT_FORMAT"

    def __init__(self, task_id: str, result: Any) -> None:
        super().__init__(
            f"task {task_id} was answered with {type(result).__name__}; expected a map with a status",
            task_id=task_id,
        )
        self.result = result


class InvalidPriorityError(OperatorError, InvalidOptionError):
    """There is no queue of that priority."""

    def __init__(self, priority: Any, valid_priorities: Sequence[str]) -> None:
        super().__init__(f"priority is {priority!r}; expected one of {', '.join(valid_priorities)}")
        self.option = "priority"
        self.priority = priority
        self.valid_priorities: list[str] = list(valid_priorities)


class OperatorConnectionError(OperatorError, BrokerUnreachable):
    """Broker or result backend could not be reached, or did not take the task in time.

    ``__cause__`` says which; a :class:`~tranship.errors.SubmitUnknown` there: the broker may have the task.
    """

    def __init__(
        self, operator_name: str, operator_version: str, reason: str | None = None, *, task_id: str | None = None
    ) -> None:
        super().__init__(
            f"operator {operator_name} {operator_version} cannot be reached" + (f": {reason}" if reason else ""),
            task_id=task_id,
        )
        self.operator_name = operator_name
        self.operator_version = operator_version
        self.reason = reason


class ClientPoolTimeoutError(OperatorError, TimeoutError):
    """All ``limit`` slots of ``pool_name`` (``"broker"`` or ``"backend"``) were taken for ``timeout`` seconds.

    Nothing was sent.
    """

    code = "CLIENT_POOL_TIMEOUT"
    retryable = True

    def __init__(self, pool_name: str, timeout: float, limit: int) -> None:
        super().__init__(f"no {pool_name} slot became free within {timeout:g} s; all {limit} were taken")
        self.pool_name = pool_name
        self.timeout = timeout
        self.limit = limit


class BatchProcessingError(OperatorError):
    """Some tasks of a batch failed. The clients say so in each result; applications may raise it."""

    code = "BATCH_PROCESSING"

    def __init__(self, failed_tasks: Sequence[Any], total_tasks: int) -> None:
        super().__init__(f"{len(failed_tasks)} of {total_tasks} tasks of a batch failed")
        self.failed_tasks = failed_tasks
        self.total_tasks = total_tasks


class OperatorClosedError(OperatorError, ClosedError):
    """The client was used after it had been closed."""


class OperatorSetupError(OperatorError, ConfigurationError):
    """The broker or the result backend cannot be set up: ``__cause__`` says why."""


class StopException(OperatorError):
    """For applications that raise it themselves; the clients do not."""

    code = "STOPPED"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
