"""``tranship migrate``: what becomes of an app of another system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tranship.cli._group import Group
from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tranship.migration import Migration, Note

__all__ = ["app"]

app: typer.Typer = typer.Typer(cls=Group, no_args_is_help=True, help="Say what becomes of an app of another system.")

Target = Annotated[str, typer.Argument(metavar="MODULE:APP", help="The Celery app, as `celery -A` takes it.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the skeleton there.", show_default="to stdout"),
]


@app.callback()
def _group() -> None:
    """With one command alone, typer would make the group that command."""


@app.command("celery")
@command()
def celery(call: Invocation, target: Target, output: Output = None) -> None:
    """Read a Celery app: print what works as it is, what differs, and its tasks as a module for tranship's workers.

    Nothing is sent, and no broker is asked. The current directory is searched first; Celery has to be installed.
    """
    found = _read(target)
    if output is not None:
        _write(output, found.skeleton)
    if call.json:
        call.output.json(found)
        return
    count = len(found.tasks)
    call.output.note(f"{found.app}: {count} {'task' if count == 1 else 'tasks'}, {len(found.schedule)} in its schedule")
    _show(call, "works as it is", found.works)
    _show(call, "differs", found.differs)
    if output is None:
        call.output.lines(found.skeleton)
    else:
        call.output.note(f"the skeleton is in {output}; run it with: tranship worker {output.stem}")


def _read(target: str) -> Migration:
    from importlib.util import find_spec

    from tranship.errors import ConfigurationError

    if find_spec("celery") is None:
        raise ConfigurationError(
            "Celery is not installed here, and an app can be read only with it: run this in the app's own environment "
            "(pip install tranship there)"
        )
    from tranship.migration import migrate_celery

    found, target = _app_of(target)
    return migrate_celery(found, target=target)


def _app_of(target: str) -> tuple[Any, str]:
    """Return the app, and what it is imported by; a module alone stands for its ``app``, or ``celery``."""
    from tranship.cli._load import load_module, load_object

    name, separator, path = target.partition(":")
    if separator and path:
        return load_object(target), target
    module = load_module(name)
    attribute = next((one for one in ("app", "celery") if hasattr(module, one)), "app")
    return load_object(f"{name}:{attribute}"), f"{name}:{attribute}"


def _write(path: Path, text: str) -> None:
    from tranship.errors import ConfigurationError

    if path.exists():
        raise ConfigurationError(f"{path} is there already; name another file, or remove it")
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def _show(call: Invocation, title: str, notes: Sequence[Note]) -> None:
    if notes:
        call.output.table(["", ""], [[note.about, note.text] for note in notes], title=title)
