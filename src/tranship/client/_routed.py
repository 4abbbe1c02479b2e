"""Tasks that are defined elsewhere go to the queue that the settings name for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tranship.settings import TaskRoutes
from tranship.task import TaskCall, TaskOptions

__all__ = ["routed", "routed_all"]


def routed(routes: TaskRoutes, call: TaskCall[Any]) -> TaskCall[Any]:
    """Return the call, to the queue that ``routes`` have for it, unless it has one of its own."""
    task = call.task
    if task.function is not None or task.options_set.queue != TaskOptions.queue:
        return call
    queue = routes.queue_of(task.name)
    return call if queue is None else replace(call, task=task.options(queue=queue))


def routed_all(routes: TaskRoutes, calls: Sequence[TaskCall[Any]]) -> list[TaskCall[Any]]:
    """The same of many; what is no call is told of later."""
    return [routed(routes, call) if isinstance(call, TaskCall) else call for call in calls]
