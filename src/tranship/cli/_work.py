"""What ``tranship worker`` is told, and one worker at work in this process."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import typer

from tranship.errors import ConfigurationError

if TYPE_CHECKING:
    from tranship.cli._invocation import Invocation
    from tranship.worker import Worker

__all__ = ["Parent", "WorkerOptions", "work"]

log = logging.getLogger("tranship.worker")

SWITCH_INTERVAL: Final = 0.0005
"""Seconds; Python's default of 5 ms makes every short step of the event loop wait for handlers in threads."""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """The options of ``tranship worker`` as they are handed from process to process, in JSON.

    Attributes:
        schedule: whether a scheduler is at work beside the worker.
        settings: those that are settings, by their names; None: not given.
        processes: how many processes there are; None: this one alone does the work.
        max_tasks: after how many tasks a process is replaced.
        max_memory: with how many bytes it is.
        number: which of the processes this is, from 1; None: the only one.
        family: of the processes, see :attr:`Worker.family`; the name before the number, where neither the options nor
            the worker have one.
    """

    targets: list[str]
    queues: list[str] | None = None
    name: str | None = None
    type_limits: dict[str, int] | None = None
    burst: bool = False
    schedule: bool = False
    log_format: str = "text"
    settings: dict[str, Any] = field(default_factory=dict)
    processes: int | None = None
    max_tasks: int | None = None
    max_memory: int | None = None
    number: int | None = None
    family: str = ""


class Parent(Protocol):
    """Who has started this process, and wants to know how it is."""

    def begun(self, patience: float) -> None:
        """Hear that it consumes, and how many seconds its tasks get when it stops."""

    def listens(self, port: int, host: str, wanted: int) -> None:
        """Hear on which port it answers health checks, and where it was asked to."""


def work(call: Invocation, options: WorkerOptions, *, parent: Parent | None = None) -> None:
    """Run one worker here until a signal, or as long as the options say.

    Args:
        call: the global options.
        options: what it is like.
        parent: told how it gets on; None: nobody has started it but a person.
    """
    from tranship.cli._recycling import DISMISSED, RECYCLED, Recycling
    from tranship.cli._serve import serve

    worker = _worker(call, options)
    if parent is not None:
        _report(worker, options, parent)
    recycling = Recycling(
        worker, max_tasks=options.max_tasks, max_memory=options.max_memory, replaced=options.number is not None
    )
    call.log(logging.INFO, json_lines=options.log_format == "json")
    _tell_passed_over(options)

    def code() -> int:
        if recycling.due:
            return RECYCLED
        return DISMISSED if worker.dismissed and options.number is not None else 0

    with _quick_switching(), _scheduler(worker, options):
        done = serve(worker, burst=options.burst, code=code)
    if code():
        raise typer.Exit(code())
    if done is not None and options.log_format != "json":  # there the log says it
        call.output.note(f"{done} deliveries done, nothing left")


def _report(worker: Worker, options: WorkerOptions, parent: Parent) -> None:
    """Have ``parent`` told; one of several processes answers health checks to it alone, on a port of its own."""
    settings = worker.settings
    worker.on_begin = lambda: parent.begun(settings.shutdown_timeout)
    if options.number is not None and settings.health_port is not None:
        host, wanted = settings.health_host, settings.health_port
        worker.settings = settings.replace(health_host="127.0.0.1", health_port=0)
        worker.on_listen = lambda port: parent.listens(port, host, wanted)


def _tell_passed_over(options: WorkerOptions) -> None:
    """Say so where a module has a worker that its tasks are run without; its settings may be what was meant."""
    from tranship.cli._load import passed_over

    if options.number not in (None, 1):  # the first of several processes says it
        return
    for target in passed_over(options.targets):
        log.info(
            "%s is not run, its module's tasks are: `tranship worker %s` runs it with its settings", target, target
        )


def _scheduler(worker: Worker, options: WorkerOptions) -> contextlib.AbstractContextManager[object]:
    """Return what sends ticks beside the worker, if anything is to."""
    if not options.schedule:
        return contextlib.nullcontext()
    if options.burst:
        raise ConfigurationError("--burst ends when nothing is left, and with --schedule there is always more; use one")
    from tranship.cli.schedule import scheduler_of

    return scheduler_of(worker.settings, worker.tasks.values())


def _worker(call: Invocation, options: WorkerOptions) -> Worker:
    from tranship.cli._load import load_work
    from tranship.worker import Worker

    loaded = load_work(options.targets)
    given: dict[str, Any] = {
        "queues": options.queues,
        "name": _name(options, loaded.name if isinstance(loaded, Worker) else options.family),
        "task_type_limits": options.type_limits,
    }
    if isinstance(loaded, Worker):
        worker = loaded.replace(broker_url=call.url, namespace=call.namespace, **given, **options.settings)
    else:
        worker = Worker(settings=call.settings(**options.settings), tasks=loaded, **given)
    worker.family = options.family
    if options.number is not None:
        _check_shared(worker, options)
    return worker


def _name(options: WorkerOptions, family: str) -> str | None:
    return options.name if options.number is None else f"{options.name or family}-{options.number}"


def _check_shared(worker: Worker, options: WorkerOptions) -> None:
    url = str(worker.settings.broker_url)
    if url.startswith("memory:") and (options.processes or 1) > 1:
        raise ConfigurationError(
            f"{url} is in the memory of one process, and --processes {options.processes} would be as many brokers that "
            "nobody else can reach; name one that all of them share, such as sqlite:////var/lib/app/tasks.db"
        )


@contextmanager
def _quick_switching() -> Iterator[None]:
    """The process is ours: let the event loop have its turn soon, whatever the handlers' threads do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH_INTERVAL))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
