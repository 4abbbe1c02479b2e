"""What ``@task`` makes: a function with a name, options and an argument check; and the context it runs in."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tranship._lazy import lazy_names
from tranship.task._context import (
    CancelReason,
    Emitted,
    TaskContext,
    Telling,
    activate,
    can_tell,
    current,
    current_or_none,
    enter,
    telling_of,
)
from tranship.task._decorator import task
from tranship.task._durable import Durable
from tranship.task._options import OptionArguments, TaskOptions, Validation
from tranship.task._task import AsyncTask, SyncTask, Task, TaskCall, named

if TYPE_CHECKING:
    from tranship.task._arguments import FunctionArguments
    from tranship.task._batch import BatchCall, Batching, BatchTask
    from tranship.task._class import Runs, TaskClass, task_of
    from tranship.task._dependencies import PROVIDED, Depends, dependencies_of, name_of
    from tranship.task._dialect import Dialect, Heed
    from tranship.task._hot_cache import HotCache
    from tranship.task._limits import Limits, held_back, without_place
    from tranship.task._model_arguments import ModelArguments
    from tranship.task._prefers import Prefers
    from tranship.task._single import Single
    from tranship.task._understood import understood
    from tranship.task._workflow import (
        MOST_STEPS,
        CallNode,
        GatherNode,
        Node,
        SeriesNode,
        Step,
        Workflow,
        gather,
        members_with,
    )

__all__ = [
    "MOST_STEPS",
    "PROVIDED",
    "AsyncTask",
    "BatchCall",
    "BatchTask",
    "Batching",
    "CallNode",
    "CancelReason",
    "Depends",
    "Dialect",
    "Durable",
    "Emitted",
    "FunctionArguments",
    "GatherNode",
    "Heed",
    "HotCache",
    "Limits",
    "ModelArguments",
    "Node",
    "OptionArguments",
    "Prefers",
    "Runs",
    "SeriesNode",
    "Single",
    "Step",
    "SyncTask",
    "Task",
    "TaskCall",
    "TaskClass",
    "TaskContext",
    "TaskOptions",
    "Telling",
    "Validation",
    "Workflow",
    "activate",
    "can_tell",
    "current",
    "current_or_none",
    "dependencies_of",
    "enter",
    "gather",
    "held_back",
    "members_with",
    "name_of",
    "named",
    "task",
    "task_of",
    "telling_of",
    "understood",
    "without_place",
]

__getattr__: Callable[[str], Any] = lazy_names(
    globals(),
    {
        "_arguments": ["FunctionArguments"],
        "_batch": ["BatchCall", "Batching", "BatchTask"],
        "_class": ["Runs", "TaskClass", "task_of"],
        "_dependencies": ["PROVIDED", "Depends", "dependencies_of", "name_of"],
        "_dialect": ["Dialect", "Heed"],
        "_hot_cache": ["HotCache"],
        "_limits": ["Limits", "held_back", "without_place"],
        "_model_arguments": ["ModelArguments"],
        "_prefers": ["Prefers"],
        "_single": ["Single"],
        "_understood": ["understood"],
        "_workflow": [
            "MOST_STEPS",
            "CallNode",
            "GatherNode",
            "Node",
            "SeriesNode",
            "Step",
            "Workflow",
            "gather",
            "members_with",
        ],
    },
)
