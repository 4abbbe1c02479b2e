"""``tranship submit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._complete import queue_names, task_names
from tranship.cli._invocation import Invocation, command
from tranship.cli._values import argument, keyword_arguments
from tranship.cli.result import Wait, check_wait, wait_and_show

if TYPE_CHECKING:
    from tranship.sync import TaskHandle
    from tranship.task import Task

LEVELS = ("high", "normal", "low", "very_low")

TaskName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The task's name, or MODULE:TASK for its own options and argument check.",
        autocompletion=task_names,
    ),
]
Args = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ARGS]...", help="JSON values, else texts; put -- before one that starts with a dash."),
]
Kwarg = Annotated[list[str] | None, typer.Option("--kwarg", "-k", metavar="KEY=VALUE", help="A keyword argument.")]
Kwargs = Annotated[str | None, typer.Option("--kwargs", metavar="JSON", help="Keyword arguments as a JSON object.")]
Queue = Annotated[
    str | None,
    typer.Option(
        "--queue", "-q", help="Where to.", show_default="default, or the task's own", autocompletion=queue_names
    ),
]
PriorityName = Annotated[
    str | None,
    typer.Option(
        "--priority",
        "-p",
        metavar="|".join(LEVELS),
        help="Before whom it is taken.",
        show_default="normal, or the task's own",
        autocompletion=lambda: list(LEVELS),
    ),
]
DeadlineIn = Annotated[float | None, typer.Option(metavar="SECONDS", help="It must have finished by then.")]
Delay = Annotated[float | None, typer.Option(metavar="SECONDS", help="It starts no sooner than then.")]
CancelKey = Annotated[str | None, typer.Option(metavar="KEY", help="`tranship cancel KEY` cancels it.")]
DedupKey = Annotated[str | None, typer.Option(metavar="KEY", help="Submitted only while nobody has the key.")]
TaskId = Annotated[str | None, typer.Option("--id", metavar="ID", help="Submit under this id.")]


@command()
def run(
    call: Invocation,
    name: TaskName,
    args: Args = None,
    *,
    kwarg: Kwarg = None,
    kwargs: Kwargs = None,
    queue: Queue = None,
    priority: PriorityName = None,
    deadline_in: DeadlineIn = None,
    delay: Delay = None,
    cancel_key: CancelKey = None,
    dedup_key: DedupKey = None,
    task_id: TaskId = None,
    wait: Wait = None,
) -> None:
    """Submit a task and print its id, or with --wait its result."""
    check_wait(wait)
    options = {
        "queue": queue,
        "priority": priority,
        "deadline_in": deadline_in,
        "delay": delay,
        "cancel_key": cancel_key,
        "dedup_key": dedup_key,
        "task_id": task_id,
    }
    given: Any = {key: value for key, value in options.items() if value is not None}
    task = _task(name, waits=wait is not None).options(**given)
    arguments, keywords = [argument(text) for text in args or ()], keyword_arguments(kwarg or (), kwargs)
    with call.client() as client:
        handle = client.submit(task, *arguments, **keywords)
        if wait is None:
            _show(call, handle)
        else:
            call.output.note(_said(handle))
            wait_and_show(call, handle, wait)


def _task(name: str, *, waits: bool) -> Task[..., Any]:
    from tranship.errors import ConfigurationError
    from tranship.task import Task, named, task_of

    if ":" not in name:
        # Who waits says so: the worker's task may keep its results to itself.
        return named(name).options(store_result=True if waits else None)
    from tranship.cli._load import load_object

    found = task_of(load_object(name))
    if not isinstance(found, Task):
        raise ConfigurationError(f"{name} is {found!r}; expected a function decorated with @task")
    return found


def _show(call: Invocation, handle: TaskHandle[Any]) -> None:
    if call.json:
        call.output.json({"id": handle.id, "duplicate": handle.duplicate})
        return
    if handle.duplicate:
        call.output.note(_said(handle))
    call.output.line(handle.id)


def _said(handle: TaskHandle[Any]) -> str:
    return f"task {handle.id} {'was there first; nothing was submitted' if handle.duplicate else 'submitted'}"
