"""``tranship result``, and what it shares with ``tranship submit --wait``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._bare import bare_number
from tranship.cli._errors import ExitCode
from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from typer.core import TyperCommand

    from tranship.envelope import TaskResult
    from tranship.sync import TaskHandle

__all__ = ["Wait", "WaitingCommand", "check_wait", "run", "wait_and_show"]

Wait = Annotated[
    float | None,
    typer.Option(
        "--wait",
        "-w",
        metavar="[SECONDS]",
        help="Wait for the result; without a number as long as it takes, or a minute where nothing is known of the id.",
    ),
]

WaitingCommand: type[TyperCommand] = bare_number("--wait", "-w", means=math.inf)


@command()
def run(call: Invocation, task_id: Annotated[str, typer.Argument(metavar="ID")], wait: Wait = None) -> None:
    """Show the result of a task, or where it is."""
    check_wait(wait)
    with call.client() as client:
        handle = client.handle(task_id)
        if wait is not None:
            wait_and_show(call, handle, wait)
        else:
            show(call, handle.info())


def wait_and_show(call: Invocation, handle: TaskHandle[Any], seconds: float) -> None:
    """Wait for the task's end and show it.

    Raises:
        ResultTimeout: it had not ended in time.
    """
    show(call, handle.wait(None if math.isinf(seconds) else seconds))


def check_wait(seconds: float | None) -> None:
    """Refuse a ``--wait`` that makes no sense, before anything is sent.

    Raises:
        InvalidOptionError: it is negative, or no number.
    """
    from tranship.checks import not_negative

    if seconds is not None and seconds != math.inf:
        not_negative("--wait", seconds)


def show(call: Invocation, result: TaskResult) -> None:
    """Print a value on stdout; anything else ends with an exit code that says so."""
    if call.json:
        call.output.json({**_facts(result), "state": result.state.value})
    elif result.success:
        if result.status is not None:
            call.output.note(f"status: {result.status}")
        _print_value(call, result.value)
    if result.success:
        return
    _explain(call, result)
    raise typer.Exit(ExitCode.TASK if result.state.terminal else ExitCode.FAILURE)


def _facts(result: TaskResult) -> dict[str, Any]:
    from tranship.cli._output import plain

    facts: dict[str, Any] = plain(result)
    return facts


def _print_value(call: Invocation, value: Any) -> None:
    from tranship.cli._output import plain

    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=plain)
    call.output.lines(text)


def _explain(call: Invocation, result: TaskResult) -> None:
    from tranship.cli._errors import one_line
    from tranship.cli._output import complain
    from tranship.envelope import TaskState

    error = result.error
    if not result.state.terminal and result.state is not TaskState.UNKNOWN:
        complain(f"task {result.id} is {result.state}: no result yet", hint="--wait waits for it")
        return
    why = one_line(result.exception())
    if error is not None:
        ours = result.state is not TaskState.FAILURE and error.type.startswith("tranship.errors.")
        told = error.type and result.state in (TaskState.FAILURE, TaskState.DEAD_LETTERED) and not ours
        kind = f"{error.type}: " if told else ""
        why = f"task {result.id} is {result.state}: {kind}{why}"
    complain(why, detail=(error.traceback or "") if error is not None and call.verbose else "")
