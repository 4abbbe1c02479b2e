"""``tranship init``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tranship.cli._invocation import Invocation, command

Directory = Annotated[
    Path, typer.Argument(metavar="[DIRECTORY]", help="Where to; otherwise here. It is made.", show_default=False)
]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="What it and its package are called; otherwise as the directory.")
]


@command()
def run(call: Invocation, directory: Directory = Path(), name: Name = None) -> None:
    """Write a small application: tasks, a program that submits, a test, a Dockerfile and a compose file."""
    from tranship.testing.scaffold import new_app

    target = new_app(directory, name)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if _written(path, target))
    if call.json:
        call.output.json({"directory": str(target), "files": files})
        return
    for one in files:
        call.output.line(str(target / one))
    (package,) = (path.parent.name for path in target.glob("*/tasks.py"))
    enter = "" if target.resolve() == Path.cwd() else f"cd {shlex.quote(str(target))} && "
    call.output.note(f"next: {enter}tranship worker {package}.tasks")
    call.output.note(f"and in another terminal, there: python -m {package} you")


def _written(path: Path, target: Path) -> bool:
    return path.is_file() and path.relative_to(target).parts[0] not in (".git", ".venv")
