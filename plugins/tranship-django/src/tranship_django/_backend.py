"""The backend: Django's tasks are submitted by a client of tranship's, and their results are read by it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from tranship.envelope import Priority, TaskState
from tranship.sync import Client
from tranship.task import named
from tranship_django._ids import new_id, task_digest
from tranship_django._interface import (
    BaseTaskBackend,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
)
from tranship_django._options import Options
from tranship_django._project import task_of_digest
from tranship_django._results import django_result, set_on

__all__ = ["TranshipBackend"]

_CLIENTS: Final[dict[tuple[Any, ...], Client]] = {}
_LOCK: Final = threading.Lock()


class TranshipBackend(BaseTaskBackend):
    """``TASKS = {"default": {"BACKEND": "tranship_django.TranshipBackend", "OPTIONS": {"url": "redis://..."}}}``.

    Raises:
        ImproperlyConfigured: options that cannot be used.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.told: Options = Options.read(alias, self.options)

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Send the task; in a transaction of the default database when that commits, unless the options say otherwise.

        Raises:
            InvalidTask: this backend cannot run it.
            TypeError: arguments that JSON has no word for.
            BrokerError, SubmitTimeout, SubmitUnknown: the broker has not taken it, or perhaps has.
        """
        self.validate_task(task)
        result = self._ready(task, args, kwargs)
        if self.told.enqueue_on_commit and transaction.get_connection().in_atomic_block:
            transaction.on_commit(partial(self._submit, result))
        else:
            self._submit(result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Read what is known of a task now.

        Raises:
            TaskResultDoesNotExist: no such task has been enqueued, or its result has expired.
            BrokerError: the store cannot be reached.
        """
        digest = task_digest(result_id)
        task = digest and task_of_digest(digest)
        if not task:
            raise TaskResultDoesNotExist(result_id)
        found = self._client().handle(result_id).info()
        if found.state is TaskState.UNKNOWN:
            raise TaskResultDoesNotExist(result_id)
        return django_result(task, self.alias, found)

    def _ready(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return TaskResult(
            task=task,
            id=new_id(task.module_path),
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=list(args),
            kwargs=dict(kwargs),
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )

    def _submit(self, result: Any) -> None:
        task = named(result.task.module_path, **{**self.told.task_options, **_options(result)})
        self._client().submit(task.call(*result.args, **result.kwargs))
        set_on(result, enqueued_at=timezone.now())
        task_enqueued.send(type(self), task_result=result)

    def _client(self) -> Client:
        """Django has a backend for each thread; all of them share one client, which is closed with the process."""
        key = (self.told.url, self.told.result_url, self.told.namespace)
        with _LOCK:
            if key not in _CLIENTS:
                _CLIENTS[key] = Client(settings=self.told.settings())
            return _CLIENTS[key]


def _options(result: Any) -> dict[str, Any]:
    task = result.task
    options = {"queue": task.queue_name, "priority": _level(task.priority), "task_id": result.id}
    if task.run_after is not None:
        after = task.run_after
        options["not_before"] = after if timezone.is_aware(after) else timezone.make_aware(after)
    return options


def _level(priority: int) -> Priority:
    """Four levels for two hundred numbers: what every broker has."""
    if priority > 0:
        return Priority.HIGH
    if priority == 0:
        return Priority.NORMAL
    return Priority.LOW if priority >= -50 else Priority.VERY_LOW
