"""The outermost command: whatever goes wrong below it ends as one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from tranship.cli._errors import ClickException, ExitCode, exit_code, hint, one_line

__all__ = ["Group"]


class Group(TyperGroup):
    """Commands in the order in which they were added, with errors for people."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run one command; return its exit code, or exit with it when ``standalone_mode``."""
        standalone = options.pop("standalone_mode", True)
        options["standalone_mode"] = False
        try:
            code = super().main(*args, **options)
        except Exception as error:  # noqa: BLE001 - the outermost place
            code = report(error)
        code = int(code) if isinstance(code, int) else ExitCode.OK
        if standalone:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C is no error."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def report(error: Exception) -> int:
    """Say what went wrong and return what to exit with."""
    if type(error).__name__ == "NoArgsIsHelpError":
        _show(error)
        return ExitCode.USAGE
    if os.environ.get("TRANSHIP_DEBUG", "") not in ("", "0"):
        traceback.print_exception(error)
    # rich is loaded where something is shown.
    from tranship.cli._output import complain

    if isinstance(error, typer.Abort):
        complain("aborted")
        return ExitCode.FAILURE
    complain(one_line(error), hint=hint(error), detail=getattr(error, "detail", ""))
    return exit_code(error)


def _show(error: Exception) -> None:
    assert isinstance(error, ClickException)
    show: Any = getattr(error, "show", None)
    show()
