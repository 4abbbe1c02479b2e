"""Azolla's exceptions, as a branch of the core's tree.

::

    AzollaError (TranshipError)
    ├── TaskError                    raise it in a task (the core's TaskError)
    │   ├── TaskValidationError      the arguments are wrong; not tried again
    │   │   └── ValidationError      an older name
    │   ├── TaskTimeoutError         something took too long
    │   └── ResourceError            something that is needed is not to be had now
    ├── ConnectionError              the broker did not take it, or did not answer (BrokerUnreachable)
    │   └── AzollaConnectionError    another name
    ├── SerializationError           arguments or a result that cannot be sent (EncodeError)
    ├── WorkerError                  what a worker was given cannot be read
    ├── TaskNotFoundError            nobody knows the task (TaskNotFound)
    ├── TaskWaitTimeoutError         waiting took too long (ResultTimeout)
    └── TaskInternalError            the orchestrator failed in itself, or answers what cannot be read (BrokerError)

What the core says of settings stays as the core says it: a wrong URL, an option outside what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tranship import errors

__all__ = [
    "AzollaConnectionError",
    "AzollaError",
    "ConnectionError",
    "ResourceError",
    "SerializationError",
    "TaskError",
    "TaskInternalError",
    "TaskNotFoundError",
    "TaskTimeoutError",
    "TaskValidationError",
    "TaskWaitTimeoutError",
    "ValidationError",
    "WorkerError",
]


class AzollaError(errors.TranshipError):
    """Base of Azolla's exceptions.

    Args:
        message: what went wrong, for people.
        extra_data: data of your own.
    """

    def __init__(self, message: str = "", **extra_data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.extra_data = extra_data


class TaskError(AzollaError, errors.TaskError):
    """Raise it in a task to fail with a code, a type, a verdict and data of your own.

    Args:
        message: what went wrong, for people.
        error_code: for programs; ``RetryPolicy(stop_on_codes=...)`` looks at it.
        error_type: what this kind of error is called; None: the name of the class.
        retryable: whether another attempt may succeed.
        extra_data: JSON-like data, handed to whoever waits.
    """

    def __init__(
        self,
        message: str = "",
        error_code: str = "TASK_ERROR",
        error_type: str | None = None,
        retryable: bool = True,
        **extra_data: Any,
    ) -> None:
        errors.TaskError.__init__(self, message, error_code, error_type, retryable, **extra_data)
        self.message = message
        self.extra_data = extra_data

    def to_dict(self) -> dict[str, Any]:
        """Return everything it says, as data."""
        return {
            "message": self.message,
            "error_code": self.error_code,
            "error_type": self.error_type,
            "retryable": self.retryable,
            **self.extra_data,
        }


class TaskValidationError(TaskError, errors.TaskValidationError):
    """The arguments are wrong; they will be wrong the next time."""

    def __init__(self, message: str = "", **extra_data: Any) -> None:
        super().__init__(message, error_code=errors.TaskValidationError.code, retryable=False, **extra_data)


class TaskTimeoutError(TaskError, errors.TaskTimeoutError):
    """Something took too long."""

    def __init__(self, message: str = "", **extra_data: Any) -> None:
        super().__init__(message, error_code=errors.TaskTimeoutError.code, **extra_data)


class ResourceError(TaskError, errors.ResourceError):
    """Something that is needed is not to be had now."""

    def __init__(self, message: str = "", **extra_data: Any) -> None:
        super().__init__(message, error_code=errors.ResourceError.code, **extra_data)


class ValidationError(TaskValidationError):
    """An older name of :class:`TaskValidationError`."""


class ConnectionError(AzollaError, errors.BrokerUnreachable):  # noqa: A001 - Azolla's own name
    """The broker did not take a task, or did not answer; the core's error is its cause."""


class AzollaConnectionError(ConnectionError):
    """Another name, beside Python's own ``ConnectionError``."""


class SerializationError(AzollaError, errors.EncodeError):
    """Arguments, or a result, that cannot be sent."""


class WorkerError(AzollaError):
    """A worker cannot do what it was asked."""

    code = "WORKER"


class TaskNotFoundError(AzollaError, errors.TaskNotFound):
    """Nobody knows the task."""


class TaskWaitTimeoutError(AzollaError, errors.ResultTimeout):
    """Waiting took longer than its ``timeout``; the task goes on."""


class TaskInternalError(AzollaError, errors.BrokerError):
    """An orchestrator failed in itself, or answers what cannot be read; the task may go on all the same."""

    code = "INTERNAL"


@contextmanager
def translated() -> Iterator[None]:
    """Raise Azolla's exceptions where the core raises its own for the same."""
    try:
        yield
    except (errors.EncodeError, errors.MessageTooLarge) as error:
        raise SerializationError(str(error)) from error
    except (errors.BrokerError, errors.SubmitTimeout, errors.SubmitUnknown) as error:
        # Every broker's own errors are of a class below it: it itself is what an orchestrator says of itself.
        kind = TaskInternalError if type(error) is errors.BrokerError else ConnectionError
        raise kind(str(error)) from error
    except errors.MalformedMessage as error:
        raise TaskInternalError(str(error)) from error
    except errors.TaskNotFound as error:
        raise TaskNotFoundError(str(error)) from error
    except errors.ResultTimeout as error:
        raise TaskWaitTimeoutError(str(error)) from error
