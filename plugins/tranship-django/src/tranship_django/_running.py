"""Django's tasks as tasks that a worker runs: around each of them Django's signals, and fresh database connections."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections, connections, reset_queries
from django.utils import timezone

from tranship.task import Task, current, task
from tranship_django._ids import enqueued_at
from tranship_django._interface import (
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from tranship_django._results import moment, set_on

__all__ = ["runnable"]


def runnable(backend: Any, django_task: Any) -> Task[..., Any]:
    """Return ``django_task`` as tranship's worker runs it."""
    options = {**backend.told.task_options, "queue": django_task.queue_name}
    run = _coroutine(backend, django_task) if iscoroutinefunction(django_task.func) else _call(backend, django_task)
    made: Task[..., Any] = task(name=django_task.module_path, **options)(run)
    return made


def _call(backend: Any, django_task: Any) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        attempt = _Attempt(backend, django_task, args, kwargs)
        attempt.begin()
        try:
            return attempt.succeeded(django_task.func(*attempt.given, **kwargs))
        except BaseException as error:
            attempt.failed(error)
            raise
        finally:
            close_old_connections()

    return run


def _coroutine(backend: Any, django_task: Any) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        # A thread for the database that this run has to itself, and that ends with it.
        async with ThreadSensitiveContext():
            attempt = _Attempt(backend, django_task, args, kwargs)
            await sync_to_async(attempt.begin)()
            try:
                value = await django_task.func(*attempt.given, **kwargs)
                return await sync_to_async(attempt.succeeded)(value)
            except BaseException as error:
                await sync_to_async(attempt.failed)(error)
                raise
            finally:
                await sync_to_async(connections.close_all)()

    return run


class _Attempt:
    """One run of a task, as Django's signals and the task's context tell of it."""

    def __init__(self, backend: Any, django_task: Any, args: Any, kwargs: Any) -> None:
        self._sender = type(backend)
        envelope = current().envelope
        self._result = TaskResult(
            task=django_task,
            id=envelope.id,
            status=TaskResultStatus.RUNNING,
            enqueued_at=moment(enqueued_at(envelope.id)),
            started_at=timezone.now(),
            finished_at=None,
            last_attempted_at=timezone.now(),
            args=list(args),
            kwargs=dict(kwargs),
            backend=backend.alias,
            errors=[],
            worker_ids=[f"{socket.gethostname()}-{os.getpid()}"] * (envelope.attempt + 1),
        )
        self.given = (TaskContext(task_result=self._result), *args) if django_task.takes_context else args

    def begin(self) -> None:
        """Tell that it begins; a connection that is broken or too old is replaced."""
        reset_queries()
        close_old_connections()
        task_started.send(self._sender, task_result=self._result)

    def succeeded(self, value: Any) -> Any:
        """Tell that it is done, and return what is kept of its value: what JSON has a word for."""
        value = normalize_json(value)
        set_on(self._result, _return_value=value)
        self._end(TaskResultStatus.SUCCESSFUL)
        return value

    def failed(self, error: BaseException) -> None:
        """Tell that it has failed; the worker decides whether it is run again."""
        kind = type(error)
        path = f"{kind.__module__}.{kind.__qualname__}"
        text = "".join(traceback.format_exception(error))
        self._result.errors.append(TaskError(exception_class_path=path, traceback=text))
        self._end(TaskResultStatus.FAILED)

    def _end(self, status: Any) -> None:
        set_on(self._result, status=status, finished_at=timezone.now())
        task_finished.send(self._sender, task_result=self._result)
