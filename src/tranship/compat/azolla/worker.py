"""Azolla's worker: one invocation, run here; and what a shepherd is for: running everything that a broker has."""

from __future__ import annotations

import enum
import json
import logging
from dataclasses import dataclass
from typing import Any, Final, Self

from tranship import envelope
from tranship import worker as core
from tranship.compat.azolla._arguments import called_with
from tranship.compat.azolla._endpoints import SHEPHERD, report_url
from tranship.compat.azolla._reporting import report
from tranship.compat.azolla.client import ClientConfig, settings_of
from tranship.compat.azolla.exceptions import TaskError, WorkerError
from tranship.compat.azolla.task import core_task
from tranship.compat.azolla.types import TaskResult, result_of
from tranship.task import Task as CoreTask
from tranship.task import named

__all__ = ["TaskExecutionOutcome", "Worker", "WorkerBuilder", "WorkerExecution", "WorkerInvocation"]

log: logging.Logger = logging.getLogger("tranship.compat.azolla.worker")

_SHOWN: Final = 200
"""Characters of a text that an error names."""


@dataclass(frozen=True, slots=True)
class WorkerInvocation:
    """One task to run.

    Attributes:
        task_id: its id, under which the result is reported.
        task_name: which one.
        args, kwargs: its arguments.
        shepherd_endpoint: where the result is reported to: the URL of a broker, or ``http://127.0.0.1:50052`` of the
            shepherd that has started this process.
    """

    task_id: str
    task_name: str
    args: list[Any]
    kwargs: dict[str, Any]
    shepherd_endpoint: str

    @classmethod
    def from_json(
        cls, task_id: str, task_name: str, args_json: str, kwargs_json: str, shepherd_endpoint: str
    ) -> WorkerInvocation:
        """Read the arguments from JSON: a list (anything else is the only argument) and an object.

        Raises:
            WorkerError: they are no such JSON.
        """
        args = _read("args", args_json, [])
        kwargs = _read("kwargs", kwargs_json, {})
        if not isinstance(kwargs, dict):
            raise WorkerError(f"kwargs is {kwargs_json[:_SHOWN]}; expected a JSON object")
        return cls(task_id, task_name, args if isinstance(args, list) else [args], kwargs, shepherd_endpoint)


class TaskExecutionOutcome(enum.Enum):
    """How it went."""

    SUCCESS = "success"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class WorkerExecution:
    """What came of an invocation.

    Attributes:
        task_id: the task's id.
        outcome: how it went.
        task_result: as whoever waits for the task sees it.
        value: what the task returned, as it arrives there; None: it failed.
        error: what it raised, as a ``TaskError``; None: it succeeded.
    """

    task_id: str
    outcome: TaskExecutionOutcome
    task_result: TaskResult[Any]
    value: Any = None
    error: TaskError | None = None

    def is_success(self) -> bool:
        """Whether the task succeeded."""
        return self.outcome is TaskExecutionOutcome.SUCCESS


class Worker:
    """Runs tasks: one that it is handed (:meth:`execute`), or those of a broker (:meth:`run`)."""

    def __init__(self) -> None:
        self._tasks: dict[str, CoreTask[..., Any]] = {}

    @classmethod
    def builder(cls) -> WorkerBuilder:
        """Return a builder for a worker."""
        return WorkerBuilder()

    def register_task(self, task: Any) -> None:
        """Have it run a task, in place of another one with that name.

        Args:
            task: a function decorated with ``@azolla_task``, or an object of a :class:`~tranship.compat.azolla.Task`.

        Raises:
            InvalidOptionError: it is neither.
        """
        made = core_task(task)
        self._tasks[made.name] = made

    def task_count(self) -> int:
        """Return how many tasks it knows."""
        return len(self._tasks)

    async def execute(self, invocation: WorkerInvocation) -> WorkerExecution:
        """Run one task here and now, through everything that a delivery goes through, with no broker.

        Whatever the task raises is in what is returned: a ``TaskError`` as it is, anything else wrapped in one.
        """
        return _execution(await self._run(invocation))

    async def run_invocation(self, invocation: WorkerInvocation) -> WorkerExecution:
        """Run it, and report how it ended to the broker, where whoever waits for the task is told, or to a shepherd.

        What is reported to a broker is final: nobody runs the task again. An orchestrator, which its shepherd tells,
        does so where the policy that the task was submitted with says so.

        Raises:
            ConnectionError: the broker, or the shepherd, could not be reached in half a minute.
            WorkerError: the task had a result already, which stays; or the shepherd does not take this one.
            InvalidURLError, InvalidOptionError: ``shepherd_endpoint`` is no broker's URL.
            UnsupportedError: that broker keeps no results.
        """
        settings = settings_of(ClientConfig(report_url(invocation.shepherd_endpoint)))
        result = await self._run(invocation, once=settings.broker().scheme == SHEPHERD)
        await report(settings, result)
        return _execution(result)

    def worker(self, endpoint: str | None = None, *, domain: str = "default", **options: Any) -> core.Worker:
        """Return a worker of the core with these tasks: ``tranship worker module:worker`` calls this.

        Args:
            endpoint: the URL of a broker; None: as of :class:`tranship.Worker`.
            domain: as of :class:`ClientConfig`.
            options: those of :class:`tranship.Worker`; ``queues`` are the shepherd groups to serve.

        Raises:
            InvalidURLError, InvalidOptionError: a value that cannot be used, or there are no tasks.
        """
        config = ClientConfig(endpoint, domain)
        return core.Worker(tasks=list(self._tasks.values()), settings=settings_of(config), **options)

    def run(self, endpoint: str | None = None, *, domain: str = "default", **options: Any) -> None:
        """Run what clients submit, until SIGTERM or SIGINT; the arguments are those of :meth:`worker`."""
        self.worker(endpoint, domain=domain, **options).run()

    async def serve(self, endpoint: str | None = None, *, domain: str = "default", **options: Any) -> None:
        """Do as :meth:`run`, on the running loop, until cancelled."""
        await self.worker(endpoint, domain=domain, **options).serve()

    async def _run(self, invocation: WorkerInvocation, *, once: bool = False) -> envelope.TaskResult:
        name = invocation.task_name
        if name not in self._tasks:
            known = ", ".join(sorted(self._tasks)) or "none"
            log.warning("there is no task %r; registered: %s", name, known)
            message = f"No implementation found for task: {name}; registered: {known}"
            return _not_found(invocation.task_id, message)
        # By its name: arguments that come from elsewhere are converted where they can be, and checked when it runs.
        # An orchestrator repeats what fails: repeating it here as well would multiply the attempts.
        task = self._tasks[name].options(retry=None) if once else self._tasks[name]
        args, kwargs = called_with(task, invocation.args, invocation.kwargs)
        call = named(name, task_id=invocation.task_id).call(*args, **kwargs)
        return await core.Worker("memory://", tasks=[task]).serve_one(call)

    def __repr__(self) -> str:
        return f"<Worker {', '.join(sorted(self._tasks)) or 'without tasks'}>"


class WorkerBuilder:
    """Builds a :class:`Worker`; each step returns the builder."""

    def __init__(self) -> None:
        self._worker = Worker()

    def register_task(self, task: Any) -> Self:
        """Do as :meth:`Worker.register_task`."""
        self._worker.register_task(task)
        return self

    def build(self) -> Worker:
        """Return the worker."""
        return self._worker


def _read(what: str, document: str, otherwise: Any) -> Any:
    if not document:
        return otherwise
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        raise WorkerError(f"{what} is {document[:_SHOWN]!r}; expected JSON: {error}") from error


def _not_found(task_id: str, message: str) -> envelope.TaskResult:
    error = envelope.ErrorInfo(
        type=f"{TaskError.__module__}.TaskError", message=message, code=TaskError.code, error_type="TaskNotFound"
    )
    return envelope.TaskResult(id=task_id, state=envelope.TaskState.FAILURE, error=error)


def _execution(found: envelope.TaskResult) -> WorkerExecution:
    result = result_of(found)
    if result.error is None:
        return WorkerExecution(found.id, TaskExecutionOutcome.SUCCESS, result, value=result.value)
    extra = dict(result.error.data or {})
    code = extra.pop("code")
    error = TaskError(
        result.error.message, code, result.error.error_type, retryable=bool(result.error.retriable), **extra
    )
    return WorkerExecution(found.id, TaskExecutionOutcome.FAILED, result, error=error)
