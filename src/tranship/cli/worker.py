"""``tranship worker``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from tranship.cli._children import AS_CHILD
from tranship.cli._complete import several_queue_names, tasks_of_module
from tranship.cli._invocation import Invocation, command, usual
from tranship.cli._values import size, type_limits, whole_number
from tranship.cli._work import Parent, WorkerOptions, work

PROCESSES: Final = "--processes"
MOST_PROCESSES: Final = 1000
MAX_TASKS: Final = "--max-tasks-per-process"
MOST_TASKS: Final = 10**12
MAX_MEMORY: Final = "--max-memory-per-process"

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="MODULE[:OBJECT]", help="Modules with tasks, or one Worker object.", autocompletion=tasks_of_module
    ),
]
Queues = Annotated[
    list[str] | None,
    typer.Option(
        "--queues",
        "-q",
        metavar="A,B",
        help="What to consume.",
        show_default="the queues of the tasks",
        autocompletion=several_queue_names,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        "-c",
        metavar="N",
        help="How many tasks run at once.",
        show_default=usual("max_concurrent_tasks"),
    ),
]
TypeLimits = Annotated[
    list[str] | None,
    typer.Option("--type-limit", metavar="TYPE=N", help="How many tasks of a type run at once; may be repeated."),
]
Burst = Annotated[bool, typer.Option("--burst", help="End when everything queued or scheduled is done.")]
Schedule = Annotated[
    bool, typer.Option("--schedule", help="Also send the ticks of periodic tasks; one of all that do so leads.")
]
Name = Annotated[
    str | None,
    typer.Option("--name", "-n", help="Unique among workers.", show_default="host, process id and something random"),
]
MaxDeliveries = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="A task delivered more often without an end is dead-lettered.",
        show_default=usual("max_deliveries"),
    ),
]
ShutdownTimeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="What running tasks get when the worker stops.",
        show_default=usual("shutdown_timeout"),
    ),
]
WaitForBroker = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="How long to wait at the start for a broker that cannot be reached.",
        show_default="as long as it takes; with --burst not at all",
    ),
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        "--health-port",
        metavar="PORT",
        help="Answer /live, /ready and /metrics there, by HTTP; 0: any free port.",
        show_default="none",
    ),
]
HealthHost = Annotated[
    str | None,
    typer.Option(
        "--health-host",
        metavar="ADDRESS",
        help="Where to listen; 0.0.0.0: everybody can ask.",
        show_default="127.0.0.1",
    ),
]
Events = Annotated[
    bool | None,
    typer.Option(
        "--events/--no-events",
        "-E",
        help="Tell Celery's programs that look on, such as Flower, what happens.",
        show_default="no, or the setting events",
    ),
]
History = Annotated[
    int | None,
    typer.Option(
        "--history",
        metavar="N",
        help="Remember the last N tasks that have ended, for the dashboard.",
        show_default="0, or the setting history",
    ),
]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option("--log-format", metavar="text|json", help="Lines to read, or one JSON object a line."),
]
Processes = Annotated[
    str | None,
    typer.Option(
        PROCESSES,
        metavar="N",
        help="Do it in N processes, each with all of these options, and replace those that end.",
        show_default="this one alone",
    ),
]
MaxTasks = Annotated[
    str | None,
    typer.Option(
        MAX_TASKS,
        metavar="N",
        help="Replace a process by a new one after so many tasks.",
        show_default="none",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        MAX_MEMORY,
        metavar="SIZE",
        help="Replace one that occupies more, such as 512M, when a task has ended.",
        show_default="none",
    ),
]
AsChild = Annotated[bool, typer.Option(AS_CHILD, hidden=True)]
Reload = Annotated[bool, typer.Option("--reload", help="Begin anew when a Python file has changed; for development.")]
ReloadDirs = Annotated[
    list[Path] | None,
    typer.Option("--reload-dir", metavar="DIR", help="Look there.", show_default="the current directory"),
]


@command(json=False, log=False)
def run(
    call: Invocation,
    targets: Targets,
    *,
    queues: Queues = None,
    concurrency: Concurrency = None,
    type_limit: TypeLimits = None,
    burst: Burst = False,
    schedule: Schedule = False,
    name: Name = None,
    max_deliveries: MaxDeliveries = None,
    shutdown_timeout: ShutdownTimeout = None,
    wait_for_broker: WaitForBroker = None,
    health_port: HealthPort = None,
    health_host: HealthHost = None,
    events: Events = None,
    history: History = None,
    log_format: LogFormat = "text",
    processes: Processes = None,
    max_tasks: MaxTasks = None,
    max_memory: MaxMemory = None,
    reload: Reload = False,
    reload_dir: ReloadDirs = None,
    as_child: AsChild = False,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C, then finish what runs; a second signal hurries.

    A module stands for all tasks in it. The current directory is searched first.
    """
    if as_child:
        from tranship.cli._assignment import receive

        given = receive()
        _work(given.call, given.options, parent=given)
        return
    options = WorkerOptions(
        targets=targets,
        queues=_split(queues),
        name=name,
        type_limits=type_limits(type_limit) if type_limit else None,
        burst=burst,
        schedule=schedule,
        log_format=log_format,
        settings={
            "max_concurrent_tasks": concurrency,
            "max_deliveries": max_deliveries,
            "shutdown_timeout": shutdown_timeout,
            "wait_for_broker": wait_for_broker,
            "health_port": health_port,
            "health_host": health_host,
            "events": events,
            "history": history,
        },
        processes=whole_number(processes, PROCESSES, most=MOST_PROCESSES) if processes is not None else None,
        max_tasks=whole_number(max_tasks, MAX_TASKS, most=MOST_TASKS) if max_tasks is not None else None,
        max_memory=size(max_memory, MAX_MEMORY) if max_memory is not None else None,
    )
    if reload or reload_dir:
        from tranship.cli._reload import keep_current

        keep_current(call, options, reload_dir or [Path.cwd()])
    else:
        _work(call, options)


def _work(call: Invocation, options: WorkerOptions, parent: Parent | None = None) -> None:
    replaced = (options.processes, options.max_tasks, options.max_memory) != (None, None, None)
    if replaced and options.number is None:
        from tranship.cli._processes import work_in_processes

        work_in_processes(call, options, parent=parent)
    else:
        work(call, options, parent=parent)


def _split(queues: list[str] | None) -> list[str] | None:
    return None if queues is None else [name.strip() for given in queues for name in given.split(",") if name.strip()]
