"""tranship: submit tasks, wait for results and run workers over any broker, chosen by URL.

The names here are the public API; ``tranship.ports``, ``tranship.errors``, ``tranship.error_codes``,
``tranship.hookspecs`` and ``tranship.testing`` are public as modules. Most of it is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tranship._lazy import lazy_names

# Imported right away: loaded later, the module `tranship.task` would take the decorator's place here.
from tranship.task import Task, TaskCall, TaskContext, current, named, task

if TYPE_CHECKING:
    from tranship.client import AsyncClient, AsyncTaskHandle, AsyncWorkflowHandle, Probe
    from tranship.envelope import Envelope, Priority, TaskResult, TaskState, WorkflowResult, WorkflowStep
    from tranship.errors import (
        Reject,
        ResourceError,
        Retry,
        TaskError,
        TaskTimeoutError,
        TaskValidationError,
        TranshipError,
    )
    from tranship.hookspecs import hookimpl
    from tranship.middleware import Middleware, RunCall, SettleCall
    from tranship.outcomes import Outcome, Progress, Snooze
    from tranship.retry import ExponentialBackoff, FixedBackoff, LinearBackoff, RetryPolicy
    from tranship.schedules import Schedule, Scheduler
    from tranship.settings import Settings
    from tranship.sync import Client, TaskHandle, WorkflowHandle
    from tranship.task import PROVIDED, BatchCall, Depends, Step, TaskClass, Workflow, gather
    from tranship.worker import Worker, WorkerStatus

__all__ = [
    "PROVIDED",
    "AsyncClient",
    "AsyncTaskHandle",
    "AsyncWorkflowHandle",
    "BatchCall",
    "Client",
    "Depends",
    "Envelope",
    "ExponentialBackoff",
    "FixedBackoff",
    "LinearBackoff",
    "Middleware",
    "Outcome",
    "Priority",
    "Probe",
    "Progress",
    "Reject",
    "ResourceError",
    "Retry",
    "RetryPolicy",
    "RunCall",
    "Schedule",
    "Scheduler",
    "Settings",
    "SettleCall",
    "Snooze",
    "Step",
    "Task",
    "TaskCall",
    "TaskClass",
    "TaskContext",
    "TaskError",
    "TaskHandle",
    "TaskResult",
    "TaskState",
    "TaskTimeoutError",
    "TaskValidationError",
    "TranshipError",
    "Worker",
    "WorkerStatus",
    "Workflow",
    "WorkflowHandle",
    "WorkflowResult",
    "WorkflowStep",
    "__version__",
    "current",
    "gather",
    "hookimpl",
    "named",
    "task",
]

__version__: Final = "0.1.0"

_HOMES: Final = {
    "client": ("AsyncClient", "AsyncTaskHandle", "AsyncWorkflowHandle", "Probe"),
    "envelope": ("Envelope", "Priority", "TaskResult", "TaskState", "WorkflowResult", "WorkflowStep"),
    "errors": (
        "Reject",
        "ResourceError",
        "Retry",
        "TaskError",
        "TaskTimeoutError",
        "TaskValidationError",
        "TranshipError",
    ),
    "hookspecs": ("hookimpl",),
    "middleware": ("Middleware", "RunCall", "SettleCall"),
    "outcomes": ("Outcome", "Progress", "Snooze"),
    "retry": ("ExponentialBackoff", "FixedBackoff", "LinearBackoff", "RetryPolicy"),
    "schedules": ("Schedule", "Scheduler"),
    "settings": ("Settings",),
    "sync": ("Client", "TaskHandle", "WorkflowHandle"),
    "task": ("PROVIDED", "BatchCall", "Depends", "Step", "TaskClass", "Workflow", "gather"),
    "worker": ("Worker", "WorkerStatus"),
}
__getattr__: Callable[[str], Any] = lazy_names(globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
