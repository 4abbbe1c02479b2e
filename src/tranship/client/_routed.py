"""Tasks that are defined elsewhere go to the queue that the settings name for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tranship.settings import TaskRoutes
from tranship.task import Task, TaskCall, TaskOptions

__all__ = ["routed", "routed_all", "routed_task"]


def routed(routes: TaskRoutes, call: TaskCall[Any]) -> TaskCall[Any]:
    """Return the call, to the queue that ``routes`` have for it, unless it has one of its own."""
    task = routed_task(routes, call.task)
    return call if task is call.task else replace(call, task=task)


def routed_task(routes: TaskRoutes, task: Task[..., Any]) -> Task[..., Any]:
    """The same of a task."""
    if task.function is not None or task.options_set.queue != TaskOptions.queue:
        return task
    queue = routes.queue_of(task.name)
    return task if queue is None else task.options(queue=queue)


def routed_all(routes: TaskRoutes, calls: Sequence[TaskCall[Any]]) -> list[TaskCall[Any]]:
    """The same of many; what is no call is told of later."""
    return [routed(routes, call) if isinstance(call, TaskCall) else call for call in calls]
