"""``tranship purge``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tranship.cli._complete import queue_names
from tranship.cli._confirm import confirm
from tranship.cli._errors import ExitCode
from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from tranship.operations import Operator

__all__ = ["run"]


@command()
def run(
    call: Invocation,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.", autocompletion=queue_names)],
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="These tasks only; without any: all that wait.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove tasks that wait in a queue, delayed ones too. What runs goes on; dead letters have `tranship dead`."""
    with call.operator() as operator:
        if not yes:
            confirm(_question(operator, queue, ids))
        purged = operator.purge_queue(queue, ids or None)
    if call.json:
        call.output.json({"purged": purged})
    else:
        call.output.line(f"{len(purged)} purged")
    if missing := set(ids or ()).difference(purged):
        call.output.note(f"{len(missing)} of the ids did not wait in queue {queue!r}", style="yellow")
        raise typer.Exit(ExitCode.FAILURE)


def _question(operator: Operator, queue: str, ids: list[str] | None) -> str:
    if ids:
        what = f"{len(set(ids))} task(s)"
    else:
        found = next((one for one in operator.queues() if one.name == queue), None)
        what = f"all {found.backlog + (found.delayed or 0) if found else 0} task(s)"
    return f"Delete {what} that wait in queue {queue!r} at {operator.settings.broker_url} for good?"
