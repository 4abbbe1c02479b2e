"""``tranship cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from tranship.envelope import TaskState
    from tranship.sync import Client


@command()
def run(
    call: Invocation,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Every task with this cancel key.")] = None,
    task_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="One task.")] = None,
    ttl: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long the cancel is remembered.", show_default="a day")
    ] = None,
) -> None:
    """Cancel tasks, queued or running, by cancel key or by id.

    The cancel is recorded, whether there is such a task or not: tasks submitted with the key or the id later are
    cancelled too, until --ttl has passed.
    """
    if (key is None) == (task_id is None):
        raise typer.BadParameter("give one of them", param_hint="KEY or --id")
    remembered = {} if ttl is None else {"ttl": ttl}
    with call.client() as client:
        removed = client.cancel(key, task_id=task_id, **remembered)
        state = None if task_id is None else _state(client, task_id)
    if call.json:
        call.output.json({"removed": removed} if state is None else {"removed": removed, "state": state.value})
    elif task_id is None:
        ended = "1 task has" if len(removed) == 1 else f"{len(removed)} tasks have"
        call.output.line(f"the cancel of key {key!r} is recorded; {ended} ended at once, workers end the rest")
    else:
        call.output.line(f"the cancel of task {task_id} is recorded; {_known(state)}")


def _state(client: Client, task_id: str) -> TaskState | None:
    """Where the task is after the cancel; None: nobody here can say."""
    from tranship.errors import ResultsDisabled, UnsupportedError

    try:
        state = client.handle(task_id).state()
    except (ResultsDisabled, UnsupportedError):
        return None
    elsewhere = client.settings.results() not in (None, client.settings.broker())
    # A store of its own has never heard of what is only queued.
    return None if elsewhere and not state.terminal else state


def _known(state: TaskState | None) -> str:
    from tranship.envelope import TaskState

    if state is None or state is TaskState.PENDING:
        return "if it is queued, or runs, a worker ends it (whether there is such a task, this broker cannot tell)"
    if state is TaskState.UNKNOWN:
        return "there is no such task now: one that is submitted under this id later is cancelled"
    if state is TaskState.CANCELLED:
        return "it has ended as CANCELLED"
    if state.terminal:
        return f"it had ended before: {state}"
    return f"it is {state}, and a worker ends it"
