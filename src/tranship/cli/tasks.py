"""``tranship tasks``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tranship.cli._invocation import Invocation, command
from tranship.cli._watch import Watch, watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tranship.operations import Operator
    from tranship.ports import Heartbeat, RunningTask

__all__ = ["run"]

Row = tuple["RunningTask", "Heartbeat"]


@command()
def run(call: Invocation, watch: Watch = None) -> None:
    """Show what runs: which task, where, since when, how far it is. As workers said last, within some seconds."""
    with call.operator() as operator:
        watched(call, watch, lambda: _look(call, operator))


def _look(call: Invocation, operator: Operator) -> None:
    workers = operator.workers()
    rows = [(task, worker) for worker in workers for task in worker.running]
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
