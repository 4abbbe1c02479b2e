"""``tranship control``: change workers while they work, and call the commands of their owners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._complete import queue_names, task_names, worker_names
from tranship.cli._errors import ExitCode
from tranship.cli._invocation import Invocation, command
from tranship.cli._values import keyword_arguments

if TYPE_CHECKING:
    from tranship.operations import CommandAnswer

__all__ = ["app"]

app: typer.Typer = typer.Typer(
    help="Change workers while they work, over the broker: what each has answered is shown.", no_args_is_help=True
)

LEVELS = ("debug", "info", "warning", "error", "critical")

Workers = Annotated[
    list[str] | None,
    typer.Option(
        "--worker",
        "-w",
        metavar="NAME",
        help="This worker only; may be given several times.",
        show_default="all",
        autocompletion=worker_names,
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="How long answers are waited for.", min=0.1)
]
AQueue = Annotated[str, typer.Argument(metavar="QUEUE", help="A queue.", autocompletion=queue_names)]
SomeQueue = Annotated[
    str | None, typer.Argument(metavar="[QUEUE]", help="This queue; none: all.", autocompletion=queue_names)
]
Type = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Tasks of this type instead.")]
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="A task's name.", autocompletion=task_names)]


@app.command("status")
@command()
def status(call: Invocation, worker: Workers = None, timeout: Timeout = 3.0) -> None:
    """Show what holds: queues, what is paused, how many run at once, limits, the latest changes."""
    _send(call, "status", {}, worker, timeout)


@app.command("pause")
@command()
def pause(
    call: Invocation, queue: SomeQueue = None, kind: Type = None, worker: Workers = None, timeout: Timeout = 3.0
) -> None:
    """Take nothing from a queue, or start no task of a type, until it is resumed. What runs goes on."""
    _send(call, "pause", _given(queue=queue, type=kind), worker, timeout)


@app.command("resume")
@command()
def resume(
    call: Invocation, queue: SomeQueue = None, kind: Type = None, worker: Workers = None, timeout: Timeout = 3.0
) -> None:
    """Take from a queue, or start tasks of a type, again."""
    _send(call, "resume", _given(queue=queue, type=kind), worker, timeout)


@app.command("consume")
@command()
def consume(call: Invocation, queue: AQueue, worker: Workers = None, timeout: Timeout = 3.0) -> None:
    """Have workers consume one more queue."""
    _send(call, "consume", {"queue": queue}, worker, timeout)


@app.command("concurrency")
@command()
def concurrency(
    call: Invocation,
    limit: Annotated[int, typer.Argument(metavar="N", help="How many tasks run at once in a worker.")],
    worker: Workers = None,
    timeout: Timeout = 3.0,
) -> None:
    """Have so many tasks run at once in each worker; what runs goes on."""
    _send(call, "concurrency", {"limit": limit}, worker, timeout)


@app.command("rate")
@command()
def rate(
    call: Invocation,
    task: TaskName,
    per_second: Annotated[
        float | None, typer.Argument(metavar="[PER_SECOND]", help="Starts per second; none: no limit.")
    ] = None,
    worker: Workers = None,
    timeout: Timeout = 3.0,
) -> None:
    """Have no more of a task start per second in each worker."""
    _send(call, "rate", {"task": task, "per_second": per_second}, worker, timeout)


@app.command("run-timeout")
@command()
def run_timeout(
    call: Invocation,
    task: TaskName,
    seconds: Annotated[
        float | None, typer.Argument(metavar="[SECONDS]", help="At most; none: as it was declared or submitted.")
    ] = None,
    worker: Workers = None,
    timeout: Timeout = 3.0,
) -> None:
    """Have each attempt of a task that begins from now on run no longer than that."""
    _send(call, "run-timeout", {"task": task, "seconds": seconds}, worker, timeout)


@app.command("log-level")
@command()
def log_level(
    call: Invocation,
    level: Annotated[
        str, typer.Argument(metavar="|".join(LEVELS), help="The least that is logged.", autocompletion=lambda: LEVELS)
    ],
    logger: Annotated[str, typer.Option(metavar="NAME", help="Which logger.")] = "tranship",
    worker: Workers = None,
    timeout: Timeout = 3.0,
) -> None:
    """Have workers log more, or less."""
    _send(call, "log-level", {"level": level, "logger": logger}, worker, timeout)


@app.command("drain")
@command()
def drain(call: Invocation, worker: Workers = None, timeout: Timeout = 3.0) -> None:
    """Have workers take nothing more, and stop once everything they run has ended. `resume` calls it off."""
    _send(call, "drain", {}, worker, timeout)


@app.command("stop")
@command()
def stop(call: Invocation, worker: Workers = None, timeout: Timeout = 3.0) -> None:
    """Stop workers as SIGTERM does; `--processes` does not replace them."""
    _send(call, "stop", {}, worker, timeout)


@app.command("restart")
@command()
def restart(call: Invocation, worker: Workers = None, timeout: Timeout = 3.0) -> None:
    """Give handlers new threads and processes, or with `--processes` a new worker; what runs finishes first."""
    _send(call, "restart", {}, worker, timeout)


@app.command("call")
@command()
def own(
    call: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A command that workers were given (on_command).")],
    *,
    kwarg: Annotated[list[str] | None, typer.Option("--kwarg", "-k", metavar="KEY=VALUE", help="An argument.")] = None,
    kwargs: Annotated[str | None, typer.Option(metavar="JSON", help="Arguments as a JSON object.")] = None,
    worker: Workers = None,
    timeout: Timeout = 3.0,
) -> None:
    """Call a command of the workers' owner."""
    _send(call, name, keyword_arguments(kwarg or (), kwargs), worker, timeout)


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _send(call: Invocation, name: str, arguments: dict[str, Any], workers: list[str] | None, timeout: float) -> None:
    """Send a command and show what was answered; the exit code says whether anybody has done it."""
    from tranship.operations import CommandState

    with call.operator() as operator:
        answers = operator.command(name, arguments, workers=workers or None, timeout=timeout)
        where = operator.settings.broker_url
    if call.json:
        call.output.json(answers)
    elif answers:
        call.output.table(["worker", "state", "answer"], map(_row, answers))
    if not any(one.state is not CommandState.SILENT for one in answers):
        call.output.note(f"nobody has answered within {timeout:g} s at {where}; see `tranship workers`", "yellow")
    if not any(one.state in (CommandState.DONE, CommandState.RUNNING) for one in answers):
        raise typer.Exit(ExitCode.FAILURE)


def _row(answer: CommandAnswer) -> list[str]:
    from tranship.cli._output import one_line_json

    value = answer.value
    said = value if isinstance(value, str) else "" if value is None else one_line_json(value)
    return [answer.worker, answer.state.value, answer.error or said]
