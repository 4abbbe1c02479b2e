"""What is known of a task, in Django's words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from tranship.envelope import TaskResult, TaskState
from tranship_django._ids import enqueued_at
from tranship_django._interface import TaskError, TaskResultStatus
from tranship_django._interface import TaskResult as DjangoResult

__all__ = ["django_result", "moment", "set_on"]

_STATUS: Final = {
    TaskState.PENDING: TaskResultStatus.READY,
    TaskState.SCHEDULED: TaskResultStatus.READY,
    TaskState.RETRY: TaskResultStatus.READY,
    TaskState.STARTED: TaskResultStatus.RUNNING,
    TaskState.SUCCESS: TaskResultStatus.SUCCESSFUL,
}
"""Every other state is an end that is no success."""


def django_result(task: Any, alias: str, found: TaskResult) -> Any:
    """Return ``found`` as a result of ``task``. What the arguments were nobody keeps once a message is gone."""
    status = _STATUS.get(found.state, TaskResultStatus.FAILED)
    ended = found.finished_at is not None and found.state.terminal
    result = DjangoResult(
        task=task,
        id=found.id,
        status=status,
        enqueued_at=moment(enqueued_at(found.id)),
        started_at=None,
        finished_at=moment(datetime.fromtimestamp(found.finished_at or 0.0, UTC)) if ended else None,
        last_attempted_at=None,
        args=[],
        kwargs={},
        backend=alias,
        errors=[_error(found)] if status == TaskResultStatus.FAILED else [],
        worker_ids=[found.worker or "unknown"] * (found.attempt + 1) if found.state.terminal else [],
    )
    if status == TaskResultStatus.SUCCESSFUL:
        set_on(result, _return_value=found.value)
    return result


def moment(when: datetime | None) -> datetime | None:
    """Return ``when`` as the project writes moments: without a time zone where it has ``USE_TZ = False``."""
    return when if when is None or settings.USE_TZ else timezone.make_naive(when)


def set_on(result: Any, **values: Any) -> None:
    """Change a result, which is frozen for everybody else; Django's own backends do it the same way."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _error(found: TaskResult) -> Any:
    error, raised = found.error, found.exception()
    # What a handler raised has a path of its own; an end without it, such as a cancel, is one of our errors.
    path = f"{type(raised).__module__}.{type(raised).__name__}"
    if error is not None and "." in error.type:
        path = error.type
    return TaskError(exception_class_path=path, traceback=(error and error.traceback) or str(raised))
