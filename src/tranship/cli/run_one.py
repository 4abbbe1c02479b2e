"""``tranship run-one``."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._complete import tasks_of_module
from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from tranship.envelope import TaskResult
    from tranship.task import Task, TaskCall
    from tranship.worker import Worker

__all__ = ["run"]

FIELDS = ("task", "args", "kwargs", "id", "headers")
"""What a call may have."""

Target = Annotated[
    str,
    typer.Argument(
        metavar="MODULE[:OBJECT]",
        help="A module with tasks, a Worker object, or one task.",
        autocompletion=tasks_of_module,
    ),
]
Call = Annotated[
    str,
    typer.Argument(
        metavar="[CALL]",
        help='The call as JSON: {"task": "name", "args": [], "kwargs": {}, "id": "...", "headers": {}}; - reads it '
        "from stdin. A target that is one task needs no name.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="For all of it, with retries.", show_default="as long as it takes"),
]


@command(json=False, log=False)
def run(call: Invocation, target: Target, document: Call = "-", *, timeout: Timeout = None) -> None:
    """Run one call in this process, with no broker, and print its result as JSON: for jobs and functions.

    It is checked, limited and retried as a worker does it: arguments that do not fit are a failure of the task. What
    the handler prints goes to stderr. The exit code says how it ended: 0, or 4 when the task failed, or has not ended
    in time.
    """
    from tranship.checks import positive

    if timeout is not None:
        positive("--timeout", timeout)
    worker = _worker(call, target)
    one = _call(worker, _fields(sys.stdin.read() if document == "-" else document))
    call.log(logging.WARNING)
    with _only_ours_on_stdout():
        result = worker.run_one(one, timeout=timeout)
    _show(call, one, result)


def _worker(call: Invocation, target: str) -> Worker:
    from tranship.cli._load import load_work
    from tranship.worker import Worker

    work = load_work([target])
    return work if isinstance(work, Worker) else Worker(settings=call.settings(), tasks=work)


def _fields(text: str) -> dict[str, Any]:
    if not text.strip():
        raise _wrong('it is empty; give JSON, such as {"task": "name", "args": []}, on the line or on stdin')
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"it is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise _wrong('it is no JSON object; write {"task": "name", "args": []}')
    for name in found:
        if name not in FIELDS:
            raise _wrong(f"it has {name!r}; known are {', '.join(FIELDS)}{_guess(name, FIELDS)}")
    for name, kind, shown in (("args", list, "a list"), ("kwargs", dict, "an object"), ("headers", dict, "an object")):
        if not isinstance(found.get(name, kind()), kind):
            raise _wrong(f"{name} is {json.dumps(found[name])[:100]}; expected {shown}")
    return found


def _call(worker: Worker, fields: dict[str, Any]) -> TaskCall[Any]:
    """Return the call as a message that has arrived: its arguments are the worker's to check, as what others send."""
    from tranship.task import TaskCall

    task = _task(worker, fields.get("task"))
    options = {"task_id": fields.get("id"), "headers": fields.get("headers")}
    task = task.options(**{name: value for name, value in options.items() if value is not None})
    return TaskCall(task, tuple(fields.get("args", ())), fields.get("kwargs", {}))


def _task(worker: Worker, name: Any) -> Task[..., Any]:
    known = ", ".join(sorted(worker.tasks))
    if name is None and len(worker.tasks) == 1:
        return next(iter(worker.tasks.values()))
    if name is None:
        raise _wrong(f'it has no "task"; there is {known}')
    if not isinstance(name, str) or name not in worker.tasks:
        raise _wrong(f"there is no task {name!r}{_guess(name, worker.tasks)}; there is {known}")
    return worker.tasks[name]


def _guess(name: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _wrong(what: str) -> typer.BadParameter:
    return typer.BadParameter(what, param_hint="the call")


@contextlib.contextmanager
def _only_ours_on_stdout() -> Iterator[None]:
    """Send what handlers, and programs that they start, write to stdout to stderr: whoever reads stdout wants JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _show(call: Invocation, one: TaskCall[Any], result: TaskResult) -> None:
    from tranship.cli._errors import ExitCode
    from tranship.cli._output import complain, plain

    facts: dict[str, Any] = plain(result)
    call.output.in_lines = True
    call.output.json({"task": one.task.name, **facts, "state": result.state.value})
    if not result.state.terminal:
        complain(f"task {result.id} has not ended: it was stopped, or its time was up")
    if not result.success:
        raise typer.Exit(ExitCode.TASK)
