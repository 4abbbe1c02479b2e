"""What ``tranship move`` shows while it works: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tranship.cli._output import Output
    from tranship.operations import MoveProgress
    from tranship.operations._move_report import Watcher

__all__ = ["watching"]

EVERY = 5.0
"""Seconds between two lines where nobody sees a bar."""


@contextlib.contextmanager
def watching(output: Output, *, quiet: bool) -> Iterator[Watcher]:
    """Show progress on stderr for as long as the block runs."""
    if quiet:
        yield lambda _told: None
    elif output.err.is_terminal:
        with _bar(output) as watcher:
            yield watcher
    else:
        yield _Lines(output)


@contextlib.contextmanager
def _bar(output: Output) -> Iterator[Watcher]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    from tranship.display import visible

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.err) as bar:
        shown = bar.add_task("moving", total=None)
        said = ""

        def watcher(told: MoveProgress) -> None:
            nonlocal said
            refused = f", {told.refused} refused" if told.refused else ""
            bar.update(shown, completed=told.done, total=told.total, description=f"moving{refused}")
            if told.note and told.note != said:
                bar.console.print(Text(visible(told.note), "yellow"), soft_wrap=True)
            said = told.note

        yield watcher


class _Lines:
    """Mutable state: when something was said last."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said = ""
        self._last = time.monotonic()

    def __call__(self, told: MoveProgress) -> None:
        """Print what is new, if it is worth a line."""
        if told.note and told.note != self._said:
            self._output.note(told.note, style="yellow")
        self._said = told.note
        if time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            of = "" if told.total is None else f" of {told.total}"
            self._output.note(f"{told.done}{of} done, {told.refused} refused")
