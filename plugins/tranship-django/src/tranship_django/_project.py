"""The project's tasks: what is in the modules ``tasks`` of its apps, and in whatever else it has loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from django.utils.module_loading import autodiscover_modules

from tranship_django._ids import digest_of
from tranship_django._interface import Task

__all__ = ["project_tasks", "task_of_digest"]

_KNOWN: dict[str, Any] = {}
"""By digest; looked for again where one is missing, for modules are loaded all the time."""


def project_tasks() -> dict[str, Any]:
    """Return Django's tasks by their module paths."""
    autodiscover_modules("tasks")
    found: dict[str, Any] = {}
    for task in _loaded():
        # Of several, such as one made by using(), that which stands under the function's name is the task.
        if task.module_path not in found or _is_original(task):
            found[task.module_path] = task
    return found


def task_of_digest(digest: str) -> Any:
    """Return the task; None: the project has none such."""
    if digest not in _KNOWN:
        _KNOWN.update({digest_of(path): task for path, task in project_tasks().items()})
    return _KNOWN.get(digest)


def _loaded() -> Iterator[Any]:
    for module in list(sys.modules.values()):
        for value in list(getattr(module, "__dict__", {}).values()):
            # The type alone is looked at: isinstance() would wake Django's lazy objects.
            if issubclass(type(value), Task):
                yield value


def _is_original(task: Any) -> bool:
    module = sys.modules.get(task.func.__module__)
    return getattr(module, task.func.__name__, None) is task
