"""``tranship schedule``: list, run, pause, resume, trigger, remove."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._complete import schedule_names, tasks_of_module
from tranship.cli._invocation import Invocation, command
from tranship.errors import UnsupportedError

if TYPE_CHECKING:
    from tranship.schedules import Scheduler, ScheduleReport

__all__ = ["app", "scheduler_of"]

app: typer.Typer = typer.Typer(help="Look at periodic tasks, pause them, and send their ticks.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A schedule.", autocompletion=schedule_names)]
Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODULE[:OBJECT]]...",
        help="Modules with tasks, or one Worker object.",
        autocompletion=tasks_of_module,
    ),
]
Beat = Annotated[
    str | None,
    typer.Option("--beat", metavar="MODULE:OBJECT", help="A beat_schedule of Celery's, or the Celery app that has it."),
]
Timezone = Annotated[
    str | None,
    typer.Option("--timezone", metavar="NAME", help="Of --beat.", show_default="the app's, else UTC"),
]


@app.command("list")
@command()
def list_schedules(call: Invocation) -> None:
    """Show every schedule: when it is due, what was sent last, whether it is paused."""
    with call.operator() as operator:
        found = operator.schedules()
    if call.json:
        call.output.json(found)
    elif found:
        _table(call, found)
    else:
        call.output.note("no schedules; a scheduler makes them known: `tranship schedule run MODULE`")


@app.command("run")
@command(json=False, log=False)
def run_scheduler(call: Invocation, targets: Targets = None, beat: Beat = None, timezone: Timezone = None) -> None:
    """Send what is due until SIGTERM or Ctrl-C. Of all that run one leads; another takes over within seconds.

    Schedules are those of tasks with every= or cron=, of the setting schedules, and those that were added. The current
    directory is searched first.
    """
    from tranship.cli._load import load_object, load_work
    from tranship.worker import Worker

    loaded: Any = load_work(targets) if targets else []
    settings = call.settings()
    if isinstance(loaded, Worker):
        settings = loaded.settings.replace(broker_url=call.url, namespace=call.namespace)
        loaded = loaded.tasks.values()
    if settings.broker_url.scheme == "memory":
        raise UnsupportedError(
            f"{settings.broker_url} is in the memory of one process, and no worker is in this one; name a broker that "
            "others can reach, or run `tranship worker ... --schedule`"
        )
    scheduler = scheduler_of(settings, loaded, beat=load_object(beat) if beat else None, timezone=timezone)
    call.log(logging.INFO)
    scheduler.run()


@app.command("pause")
@command(json=False)
def pause_schedule(call: Invocation, name: Name) -> None:
    """Send no tick of a schedule until it is resumed."""
    with call.operator() as operator:
        operator.pause_schedule(name)
    call.output.line(f"{name} is paused")


@app.command("resume")
@command(json=False)
def resume_schedule(call: Invocation, name: Name) -> None:
    """Send its ticks again, from the next one on."""
    with call.operator() as operator:
        operator.resume_schedule(name)
    call.output.line(f"{name} is active")


@app.command("trigger")
@command()
def trigger_schedule(call: Invocation, name: Name) -> None:
    """Run the task of a schedule now, out of turn."""
    with call.operator() as operator:
        task_id = operator.trigger_schedule(name)
    if call.json:
        call.output.json({"id": task_id})
    else:
        call.output.line(task_id)


@app.command("remove")
@command(json=False)
def remove_schedule(call: Invocation, name: Name) -> None:
    """Remove one that was added, or that nobody declares any more."""
    with call.operator() as operator:
        operator.remove_schedule(name)
    call.output.line(f"{name} is removed")


def scheduler_of(settings: Any, tasks: Any, *, beat: Any = None, timezone: str | None = None) -> Scheduler:
    """Return a scheduler of what was loaded."""
    from tranship.schedules import Scheduler

    return Scheduler(settings=settings, tasks=tasks, beat_schedule=beat, timezone=timezone)


def _table(call: Invocation, found: list[ScheduleReport]) -> None:
    from tranship.cli._output import moment

    columns = ["schedule", "task", "queue", "when", "missed", "from", "state", "next", "last sent"]
    rows = [
        [
            one.name,
            one.task,
            one.queue,
            one.when,
            one.missed,
            one.origin,
            one.state,
            None if one.next is None else moment(one.next),
            None if one.last is None else moment(one.last),
        ]
        for one in found
    ]
    call.output.table(columns, rows)
    for one in found:
        if one.error:
            call.output.note(f"{one.name}: its latest tick could not be sent: {one.error}", style="yellow")
    if any(one.state == "idle" for one in found):
        call.output.note("idle: no scheduler at work declares it")
