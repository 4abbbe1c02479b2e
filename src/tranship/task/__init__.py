"""What ``@task`` makes: a function with a name, options and an argument check; and the context it runs in."""

from tranship.task._context import CancelReason, TaskContext, activate, current, current_or_none, enter
from tranship.task._decorator import task
from tranship.task._dialect import Dialect, Heed
from tranship.task._hot_cache import HotCache
from tranship.task._options import OptionArguments, TaskOptions
from tranship.task._task import AsyncTask, SyncTask, Task, TaskCall, named

__all__ = [
    "AsyncTask",
    "CancelReason",
    "Dialect",
    "Heed",
    "HotCache",
    "OptionArguments",
    "SyncTask",
    "Task",
    "TaskCall",
    "TaskContext",
    "TaskOptions",
    "activate",
    "current",
    "current_or_none",
    "enter",
    "named",
    "task",
]
