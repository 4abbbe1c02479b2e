"""``tranship config``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tranship.cli._invocation import Invocation, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tranship.settings import SettingRow


@command()
def run(call: Invocation) -> None:
    """Show every setting: its value, where it comes from, and the variable that sets it."""
    rows = call.settings().rows()
    if call.json:
        call.output.json([row._asdict() for row in rows])
    else:
        show(call, rows)


def show(call: Invocation, rows: Sequence[SettingRow]) -> None:
    """Print the table."""
    call.output.table(["setting", "value", "origin", "variable"], rows)
