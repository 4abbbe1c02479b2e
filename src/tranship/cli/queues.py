"""``tranship queues``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tranship.cli._invocation import Invocation, command
from tranship.cli._watch import Watch, watched

if TYPE_CHECKING:
    from tranship.operations import Operator, QueueReport


@command()
def run(call: Invocation, watch: Watch = None) -> None:
    """Show every queue: what waits at each level, what runs, what died, who works."""
    with call.operator() as operator:
        watched(call, watch, lambda: _look(call, operator))


def _look(call: Invocation, operator: Operator) -> None:
    queues = operator.queues()
    if call.json:
        call.output.json([as_data(queue) for queue in queues])
    elif queues:
        show(call, queues)
    else:
        call.output.note(f"no queues at {operator.settings.broker_url}: nothing queued, no workers")


def as_data(queue: QueueReport) -> dict[str, Any]:
    """Return the report as JSON has it."""
    return {
        "name": queue.name,
        "ready": {level.label: count for level, count in queue.ready.items()},
        "delayed": queue.delayed,
        "in_flight": queue.in_flight,
        "oldest_age": queue.oldest_age,
        "dead": queue.dead,
        "workers": queue.workers,
    }


def show(call: Invocation, queues: list[QueueReport]) -> None:
    """Print the table."""
    from tranship.cli._output import age
    from tranship.envelope import Priority

    levels = [f"#{level.label}" for level in Priority]
    columns = ["queue", *levels, "#delayed", "#in flight", "#oldest", "#dead", "#workers"]
    call.output.table(
        columns,
        [
            [
                queue.name,
                *(queue.ready[level] for level in Priority),
                queue.delayed,
                queue.in_flight,
                age(queue.oldest_age) if queue.backlog else "",
                queue.dead,
                queue.workers,
            ]
            for queue in queues
        ],
    )
