"""``tranship plugin``: for who writes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tranship.cli._group import Group
from tranship.cli._invocation import Invocation, command

__all__ = ["app"]

app: typer.Typer = typer.Typer(cls=Group, no_args_is_help=True, help="Write a plugin.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Such as mine: tranship-mine, for mine:// URLs.")]
Directory = Annotated[
    Path, typer.Option("--directory", "-d", metavar="DIRECTORY", help="Where to; otherwise here.", show_default=False)
]


@app.command("new")
@command()
def new(call: Invocation, name: Name, directory: Directory = Path()) -> None:
    """Write a distribution with a backend of three methods, its options, its tests and its CI."""
    from tranship.testing.scaffold import new_plugin

    target = new_plugin(name, directory)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    if call.json:
        call.output.json({"directory": str(target), "files": files})
        return
    for one in files:
        call.output.line(str(target / one))
    scheme = target.name.removeprefix("tranship-")
    # The first pip that knows --group; Python 3.11 to 3.13 come with older ones.
    upgrade = 'python -m pip install "pip>=25.1"'
    call.output.note(f"next: cd {target} && {upgrade} && python -m pip install -e . --group tests && python -m pytest")
    call.output.note(f"then: tranship conformance {scheme}://conformance")
