"""``tranship workers``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tranship.cli._invocation import Invocation, command
from tranship.cli._watch import Watch, watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tranship.operations import Operator
    from tranship.ports import Heartbeat, HostFigures

__all__ = ["run"]


@command()
def run(call: Invocation, watch: Watch = None) -> None:
    """Show every worker: where it is, since when, how busy, what it consumes and has loaded."""
    with call.operator() as operator:
        watched(call, watch, lambda: _look(call, operator))


def _look(call: Invocation, operator: Operator) -> None:
    from tranship.ports import heartbeat_data

    workers = operator.workers()
    if call.json:
        call.output.json([heartbeat_data(worker) for worker in workers])
    elif workers:
        show(call, workers)
    else:
        call.output.note(f"no worker was heard of in the last minute at {operator.settings.broker_url}")


def show(call: Invocation, workers: Sequence[Heartbeat]) -> None:
    """Print the table, and what is odd."""
    columns = [
        "worker",
        "host",
        "#pid",
        "#up",
        "#running",
        "queues",
        "#cpu",
        "#memory",
        "#load",
        "hot skills",
        "labels",
    ]
    call.output.table(columns, map(_row, workers))
    for worker in workers:
        for other in worker.namesakes:
            call.output.note(f"another worker is named {worker.worker!r}, too: {other}", style="yellow")


def _row(worker: Heartbeat) -> list[Any]:
    from tranship.cli._output import age

    figures = worker.figures
    return [
        worker.worker,
        worker.host,
        worker.pid,
        age(time.time() - worker.started_at) if worker.started_at else None,
        f"{worker.busy}/{worker.limit}",
        ", ".join(worker.queues),
        None if figures.process_cpu is None else f"{figures.process_cpu:.0%}",
        _memory(figures),
        None if figures.load is None else f"{figures.load:g}",
        ", ".join(worker.hot_skills),
        ", ".join(f"{name}={value}" for name, value in worker.labels.items()),
    ]


def _memory(figures: HostFigures) -> str | None:
    return None if figures.process_memory is None else f"{figures.process_memory / 2**20:.0f} MB"
