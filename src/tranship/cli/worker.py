"""``tranship worker``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tranship.cli._invocation import Invocation, command, usual
from tranship.cli._values import type_limits

if TYPE_CHECKING:
    from tranship.worker import Worker

SWITCH_INTERVAL = 0.0005
"""Seconds; Python's default of 5 ms makes every short step of the event loop wait for handlers in threads."""

Targets = Annotated[
    list[str], typer.Argument(metavar="MODULE[:OBJECT]", help="Modules with tasks, or one Worker object.")
]
Queues = Annotated[
    list[str] | None,
    typer.Option("--queues", "-q", metavar="A,B", help="What to consume.", show_default="the queues of the tasks"),
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
LogFormat = Annotated[
    Literal["text", "json"], typer.Option("--log-format", help="Lines to read, or one JSON object a line.")
]
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
    name: Name = None,
    max_deliveries: MaxDeliveries = None,
    shutdown_timeout: ShutdownTimeout = None,
    wait_for_broker: WaitForBroker = None,
    health_port: HealthPort = None,
    health_host: HealthHost = None,
    log_format: LogFormat = "text",
    reload: Reload = False,
    reload_dir: ReloadDirs = None,
) -> None:
    """Run tasks until SIGTERM or Ctrl-C, then finish what runs; a second signal hurries.

    A module stands for all tasks in it. The current directory is searched first.
    """
    if reload or reload_dir:
        from tranship.cli._reload import keep_current

        keep_current(call, reload_dir or [Path.cwd()], patience=shutdown_timeout)
        return
    from tranship.cli._serve import serve

    options = {
        "max_concurrent_tasks": concurrency,
        "max_deliveries": max_deliveries,
        "shutdown_timeout": shutdown_timeout,
        "wait_for_broker": wait_for_broker,
        "health_port": health_port,
        "health_host": health_host,
    }
    limits = type_limits(type_limit) if type_limit else None
    worker = _worker(call, targets, queues=_split(queues), name=name, limits=limits, **options)
    call.log(logging.INFO, json_lines=log_format == "json")
    with _quick_switching():
        done = serve(worker, burst=burst)
    if done is not None:
        call.output.note(f"{done} deliveries done, nothing left")


def _worker(
    call: Invocation,
    targets: list[str],
    *,
    queues: list[str] | None,
    name: str | None,
    limits: dict[str, int] | None,
    **options: Any,
) -> Worker:
    from tranship.cli._load import load_work
    from tranship.worker import Worker

    work = load_work(targets)
    if isinstance(work, Worker):
        given = {"broker_url": call.url, "namespace": call.namespace, **options}
        return work.replace(queues=queues, name=name, task_type_limits=limits, **given)
    return Worker(settings=call.settings(**options), tasks=work, queues=queues, name=name, task_type_limits=limits)


def _split(queues: list[str] | None) -> list[str] | None:
    return None if queues is None else [name.strip() for given in queues for name in given.split(",") if name.strip()]


@contextmanager
def _quick_switching() -> Iterator[None]:
    """The process is ours: let the event loop have its turn soon, whatever the handlers' threads do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH_INTERVAL))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
