"""``tranship schema``: export what tasks take and return, and compare two exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tranship.cli._complete import tasks_of_module
from tranship.cli._group import Group
from tranship.cli._invocation import Invocation, command

__all__ = ["Targets", "app", "document_of"]

app: typer.Typer = typer.Typer(
    cls=Group, no_args_is_help=True, help="Export what tasks take and return; find breaking changes."
)

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="MODULE[:OBJECT]",
        help="Modules with tasks, a task, or one Worker object.",
        autocompletion=tasks_of_module,
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; otherwise to stdout.")]
Old = Annotated[str, typer.Argument(metavar="OLD", help="A file that was exported, or MODULE[:OBJECT].")]
New = Annotated[str, typer.Argument(metavar="NEW", help="A file that was exported, or MODULE[:OBJECT].")]


@app.command("export")
@command()
def export(call: Invocation, targets: Targets, output: Output = None) -> None:
    """Write the names, queues and JSON Schemas of tasks as one JSON document."""
    found = document_of(targets)
    if output is None:
        call.output.json(found)
        return
    import json

    from tranship.errors import ConfigurationError

    try:
        output.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror}") from error
    call.output.note(f"{len(found['tasks'])} tasks written to {output}")


@app.command("diff")
@command()
def diff(call: Invocation, old: Old, new: New) -> None:
    """Say what NEW breaks for those who go by OLD; then the exit code is 1."""
    from tranship.schema import breaking_changes

    before, after = _either(old), _either(new)
    found = breaking_changes(before, after)
    if call.json:
        call.output.json({"breaking": found})
    for change in [] if call.json else found:
        call.output.line(change, "red")
    if found:
        call.output.note(f"{len(found)} breaking changes")
        raise typer.Exit(1)
    call.output.note("nothing breaks")


def document_of(targets: Sequence[str]) -> dict[str, Any]:
    """Return the document of the tasks that ``targets`` name.

    Raises:
        ConfigurationError, ModuleFailedError: as :func:`tranship.cli._load.load_work`; or there is no pydantic.
    """
    from tranship.cli._load import load_work
    from tranship.schema import document
    from tranship.worker import Worker

    work = load_work(targets)
    return document(work.tasks.values() if isinstance(work, Worker) else work)


def _either(name: str) -> dict[str, Any]:
    from tranship.schema import read_document

    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        return read_document(path)
    return document_of([name])
