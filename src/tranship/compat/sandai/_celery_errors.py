"""A timeout that is Celery's as well, for callers who catch that one. Celery is never imported for it."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module

from tranship.compat.sandai.exceptions import TaskTimeoutError

__all__ = ["celery_timeout"]


def celery_timeout(error: TaskTimeoutError) -> TaskTimeoutError:
    """Return the same error, of Celery's class, too, where the application has imported Celery."""
    # Who has not imported Celery cannot name its class, and importing it takes a fifth of a second.
    if "celery" not in sys.modules:
        return error
    both = _both()(error.task_id or "", error.timeout)
    both.__cause__ = error.__cause__
    return both


@cache
def _both() -> type[TaskTimeoutError]:
    celery: type[Exception] = import_module("celery.exceptions").TimeoutError
    return type("TaskTimeoutError", (TaskTimeoutError, celery), {"__module__": TaskTimeoutError.__module__})
