"""The workers of a project, by the names of its backends: ``tranship worker tranship_django.workers:default``.

``manage.py tranship worker`` names the right one. Django is set up where nobody has done that, as in the processes of
``--processes``: ``DJANGO_SETTINGS_MODULE`` says how.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import django

from tranship.errors import ConfigurationError
from tranship.worker import Worker

__all__ = ["worker_of"]


@cache
def worker_of(alias: str) -> Worker:
    """Return a worker for all tasks of the project, on the queues of the backend ``alias``.

    Raises:
        ConfigurationError: no such backend, one of another kind, or no tasks.
    """
    django.setup()
    from tranship_django._backend import TranshipBackend
    from tranship_django._interface import task_backends
    from tranship_django._project import project_tasks
    from tranship_django._running import runnable

    known = [name for name in task_backends if isinstance(task_backends[name], TranshipBackend)]
    if alias not in known:
        raise ConfigurationError(
            f"TASKS has no backend {alias!r} of tranship_django.TranshipBackend; it has {', '.join(known) or 'none'}"
        )
    backend, found = task_backends[alias], project_tasks()
    if not found:
        raise ConfigurationError(
            "the project has no tasks; decorate functions with Django's @task in the module tasks of an installed app"
        )
    tasks = [runnable(backend, one) for one in found.values()]
    return Worker(settings=backend.told.settings(), tasks=tasks, queues=sorted(backend.queues) or None)


def __getattr__(alias: str) -> Any:
    if alias.startswith("__"):
        raise AttributeError(alias)
    return worker_of(alias)
