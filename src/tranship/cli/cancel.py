"""``tranship cancel``."""

from __future__ import annotations

from typing import Annotated

import typer

from tranship.cli._invocation import Invocation, command


@command()
def run(
    call: Invocation,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Every task with this cancel key.")] = None,
    task_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="One task.")] = None,
    ttl: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long the cancel is remembered; otherwise a day.")
    ] = None,
) -> None:
    """Cancel tasks, queued or running, by cancel key or by id.

    A key stays cancelled: tasks submitted with it later are cancelled too, until --ttl has passed.
    """
    if (key is None) == (task_id is None):
        raise typer.BadParameter("give one of them", param_hint="KEY or --id")
    remembered = {} if ttl is None else {"ttl": ttl}
    with call.client() as client:
        removed = client.cancel(key, task_id=task_id, **remembered)
    if call.json:
        call.output.json({"removed": removed})
        return
    what = f"cancel key {key!r}" if key is not None else f"task {task_id}"
    call.output.line(f"{what} is cancelled; {len(removed)} queued removed at once, workers stop what runs")
