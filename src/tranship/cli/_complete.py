"""What the shell offers when Tab is pressed: read from the broker, quickly and silently, or not at all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from tranship.operations import Operator

__all__ = [
    "dead_letters",
    "queue_names",
    "schedule_names",
    "several_queue_names",
    "task_names",
    "tasks_of_module",
    "worker_names",
]

PATIENCE = 2.0
"""Seconds that somebody who has pressed Tab waits."""
MOST = 200

T = TypeVar("T")
Offer = tuple[str, str]
"""What can be typed, and a help that some shells show."""


def task_names(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer the tasks that live workers have; behind a colon those of a module."""
    return tasks_of_module(incomplete) if ":" in incomplete else _starting(incomplete, _asked(ctx, _known_tasks))


def tasks_of_module(incomplete: str) -> Iterator[Offer]:
    """Offer the tasks of a module, behind its name and a colon."""
    module, colon, _ = incomplete.partition(":")
    return _starting(incomplete, _in_time(lambda: list(_of_module(module))) if colon else None)


def dead_letters(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer the ids of dead letters."""
    return _starting(incomplete, _asked(ctx, _letters))


def queue_names(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer the queues there are."""
    return _starting(incomplete, _asked(ctx, lambda operator: [(one.name, "") for one in operator.queues()]))


def worker_names(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer the workers that were heard of."""
    return _starting(incomplete, _asked(ctx, lambda operator: [(one.worker, one.host) for one in operator.workers()]))


def schedule_names(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer the schedules there are."""
    return _starting(incomplete, _asked(ctx, lambda operator: [(one.name, one.when) for one in operator.schedules()]))


def several_queue_names(ctx: typer.Context, incomplete: str) -> Iterator[Offer]:
    """Offer the queues there are, behind those that are typed already."""
    typed, comma, last = incomplete.rpartition(",")
    return ((f"{typed}{comma}{name}", more) for name, more in queue_names(ctx, last))


def _starting(incomplete: str, offers: Iterable[Offer] | None) -> Iterator[Offer]:
    # A name that a shell would have to quote, or that is nobody's idea of one, is a stranger's.
    fit = (offer for offer in offers or () if offer[0].startswith(incomplete) and offer[0].isprintable())
    yield from (offer for offer in fit if " " not in offer[0])


def _known_tasks(operator: Operator) -> list[Offer]:
    return [(name, "") for name in sorted({name for worker in operator.workers() for name in worker.tasks})]


def _letters(operator: Operator) -> list[Offer]:
    return [(one.id, f"{one.task}: {one.reason}") for one in operator.dead_letters(limit=MOST)]


def _of_module(name: str) -> Iterator[Offer]:
    from tranship.cli._load import load_module
    from tranship.task import Task, task_of

    for attribute, value in vars(load_module(name)).items():
        found = task_of(value)
        if isinstance(found, Task):
            yield f"{name}:{attribute}", found.name


def _asked(ctx: typer.Context, ask: Callable[[Operator], list[Offer]]) -> list[Offer] | None:
    def work() -> list[Offer]:
        from tranship.cli._invocation import Invocation

        outer = ctx.find_root().params
        url, namespace = (ctx.params.get(name) or outer.get(name) for name in ("url", "namespace"))
        with Invocation(url=url, namespace=namespace).operator() as operator:
            return ask(operator)

    return _in_time(work)


def _in_time(work: Callable[[], T]) -> T | None:
    """Return what ``work`` returns; None: it has failed, or takes too long."""
    logging.disable(logging.CRITICAL)
    found: list[Any] = []

    def tried() -> None:
        # Whatever it is: a prompt is no place for it.
        try:
            found.append(work())
        except BaseException:  # noqa: BLE001
            return

    thread = threading.Thread(target=tried, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found[0] if found else None
