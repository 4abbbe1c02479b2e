"""``tranship tasks``."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._complete import queue_names
from tranship.cli._invocation import Invocation, command
from tranship.cli._watch import Watch, watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tranship.operations import Operator
    from tranship.ports import Heartbeat, RunningTask

__all__ = ["run"]

Row = tuple["RunningTask", "Heartbeat"]


@command()
def run(
    call: Invocation,
    waiting: Annotated[bool, typer.Option("--waiting", help="Show what waits in the queues instead.")] = False,
    queue: Annotated[
        str | None, typer.Option("--queue", "-q", help="Those of this queue.", autocompletion=queue_names)
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-l", metavar="N", help="With --waiting: how many of a queue at most.")
    ] = 100,
    watch: Watch = None,
) -> None:
    """Show what runs: which task, where, since when, how far it is; as workers said last, within some seconds. Or what
    waits: ready tasks in the order in which they would be taken, then delayed ones.
    """
    with call.operator() as operator:
        if waiting:
            watched(call, watch, lambda: _look_at_waiting(call, operator, queue, limit))
        else:
            watched(call, watch, lambda: _look(call, operator, queue))


def _look_at_waiting(call: Invocation, operator: Operator, queue: str | None, limit: int) -> None:
    tasks = operator.waiting(queue, limit=limit)
    if call.json:
        call.output.json([{**asdict(task), "priority": task.priority.label} for task in tasks])
    elif tasks:
        columns = ["id", "task", "queue", "priority", "state", "#attempt", "cancel key"]
        rows = [
            [task.id, task.task, task.queue, task.priority.label, task.state, task.attempt + 1, task.cancel_key]
            for task in tasks
        ]
        call.output.table(columns, rows)
    else:
        call.output.note(f"nothing waits at {operator.settings.broker_url}")
    if full := [name for name, count in Counter(task.queue for task in tasks).items() if count >= limit]:
        call.output.note(f"there may be more in {', '.join(full)}: --limit")


def _look(call: Invocation, operator: Operator, queue: str | None) -> None:
    workers = operator.workers()
    rows = [(task, worker) for worker in workers for task in worker.running if queue in (None, task.queue)]
    rows.sort(key=lambda row: row[0].since or time.time())
    if call.json:
        call.output.json([{**asdict(task), "worker": worker.worker, "host": worker.host} for task, worker in rows])
    elif rows:
        show(call, rows)
    else:
        call.output.note(f"nothing runs at {operator.settings.broker_url} (workers: {len(workers)})")
    if more := sum(worker.busy - len(worker.running) for worker in workers):
        call.output.note(f"and {more} more, which workers did not list: heartbeats are bounded")


def show(call: Invocation, rows: Sequence[Row]) -> None:
    """Print the table, the longest running first."""
    columns = ["id", "task", "queue", "#running for", "#attempt", "#done", "worker", "host", "note"]
    call.output.table(columns, map(_row, rows))


def _row(row: Row) -> list[Any]:
    from tranship.cli._output import age

    task, worker = row
    return [
        task.id,
        task.task,
        task.queue,
        # By the worker's clock, which need not be ours.
        None if task.since is None else age(max(0.0, time.time() - task.since)),
        task.attempt + 1,
        None if task.progress is None else f"{task.progress:.0%}",
        worker.worker,
        worker.host,
        task.note,
    ]
