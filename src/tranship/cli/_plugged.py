"""Commands of plugins, beside our own."""

from __future__ import annotations

from typing import Any

import typer

from tranship.cli._group import Group

__all__ = ["Program"]


class Program(Group):
    """The outermost command: ours, and those of plugins, which are looked for where ours do not have it.

    ``--help`` lists ours alone: to ask every plugin would make each start slower. ``tranship plugins`` lists theirs.
    """

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by name; a plugin is asked only for what is none of ours."""
        return super().get_command(ctx, cmd_name) or self._plugged(cmd_name)

    def _plugged(self, name: str) -> Any:
        from tranship._defaults import default_registry
        from tranship.connections import process_table

        plugins = default_registry(process_table())
        if (spec := plugins.commands().get(name)) is None:
            return None
        found = plugins.command(name)
        if not isinstance(found, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command(name, help=spec.summary or None)(found)
            found = app
        return typer.main.get_command(found)
