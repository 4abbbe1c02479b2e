"""What people see: tables and lines on stdout, notes and errors on stderr; JSON for scripts."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tranship.display import visible, visible_lines

__all__ = ["Output", "age", "complain", "literal", "milliseconds", "moment", "one_line_json", "plain"]

_UNLIMITED: Final = 10_000
"""Columns where nobody looks: programs want one line per row, whatever its length."""
_LEVELS: Final = 100
"""Levels of what is nested too deeply for JSON with indents; readers of messages manage a thousand."""


class Output:
    """The two streams of one command. Whatever is printed may be a stranger's: see :mod:`tranship.display`.

    Args:
        quiet: no notes.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)
        self._quiet = quiet
        self.in_lines = False
        """Whether JSON is one line, because more of it follows."""

    def line(self, text: str, style: str = "") -> None:
        """Print what was asked for, in one line."""
        self.out.print(Text(visible(text), style), soft_wrap=True)

    def lines(self, text: str, indent: str = "") -> None:
        """Print a text that may have several lines, such as a value or a traceback."""
        for one in visible_lines(text).split("\n"):
            self.out.print(Text(indent + one), soft_wrap=True)

    def note(self, text: str, style: str = "dim") -> None:
        """Say something beside it, on stderr; not when quiet."""
        if not self._quiet:
            self.err.print(Text(visible(text), style), soft_wrap=True)

    def json(self, data: Any) -> None:
        """Print ``data`` for a program."""
        print(_json(data, indent=None if self.in_lines else 2))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
        """Print rows; a column that starts with ``#`` is of numbers. Cells are texts, Text or None.

        Where it is too narrow for the longest words, each row is printed as lines of name and value.
        """
        cells = [[cell if isinstance(cell, Text) else Text(visible(_cell(cell))) for cell in row] for row in rows]
        table = _table(columns, cells)
        table.title, table.title_justify, table.title_style = title, "left", "bold"
        roomy = self.out.options.update(width=_UNLIMITED)
        if Measurement.get(self.out, roomy, table).minimum <= self.out.width:
            self.out.print(table)
            self.out.print()
            return
        # It would break inside of words: one cell below the other.
        if title:
            self.out.print(Text(title, "bold"))
        for row in cells:
            self.out.print(_stack(columns, row))


def complain(text: str, *, hint: str = "", detail: str = "") -> None:
    """Print an error: one red line on stderr, then details and a hint, where there are any."""
    console = _console(stderr=True)
    console.print(Text(f"error: {visible(text)}", "bold red"), soft_wrap=True)
    if detail:
        console.print(Text(visible_lines(detail.rstrip())), soft_wrap=True)
    if hint:
        console.print(Text(f"hint: {visible(hint)}", "dim"), soft_wrap=True)


def plain(value: Any) -> Any:
    """Return ``value`` as something JSON knows; the default of ``json.dumps``."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def literal(value: Any) -> str:
    """Return ``repr(value)``, however deeply it is nested."""
    try:
        return repr(value)
    except RecursionError:
        return repr(_cut(value))


def one_line_json(data: Any) -> str:
    """Return ``data`` as JSON in one line."""
    return _json(data, indent=None)


def age(seconds: float | None) -> str:
    """Return a duration as people say it: ``"850 ms"``, ``"12 s"``, ``"3 min"``, ``"5 h"``, ``"2 d"``."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    for unit, size, limit in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def milliseconds(seconds: float | None) -> str:
    """Return a short duration, such as ``"0.42 ms"``."""
    return "" if seconds is None else f"{seconds * 1000:.3g} ms"


def moment(epoch: float) -> str:
    """Return a point in time in the local time zone."""
    from datetime import datetime

    return datetime.fromtimestamp(epoch).astimezone().isoformat(sep=" ", timespec="seconds")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.show_header = any(column.strip("#") for column in columns)
    for at, column in enumerate(columns):
        name, is_number = column.removeprefix("#"), column.startswith("#")
        # A number stays in one line with its unit: "12 min".
        cells = [row[at].cell_len if is_number else _longest_word(row[at].plain) for row in rows]
        least = max([_longest_word(name), *cells])
        table.add_column(name, justify="right" if is_number else "left", overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*row)
    return table


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _stack(columns: Sequence[str], row: Sequence[Text]) -> Table:
    """Return one row as lines, without those that are empty, and an empty one behind them."""
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True, style="dim")
    lines.add_column(overflow="fold")
    for column, cell in zip(columns, row, strict=True):
        if cell:
            lines.add_row(column.removeprefix("#"), cell)
    lines.add_row()
    return lines


def _json(data: Any, *, indent: int | None = 2) -> str:
    """Return ``data`` as JSON that every terminal and every encoding takes: what cannot be printed is escaped."""
    try:
        text = json.dumps(data, indent=indent, ensure_ascii=False, default=plain)
    except RecursionError:
        text = json.dumps(_cut(data), indent=indent, ensure_ascii=False, default=plain)
    if not all(map(str.isprintable, text.split("\n"))):
        # Only texts hold such characters, where \\u and four digits mean the same.
        text = "".join(one if _is_shown(one) else json.dumps(one)[1:-1] for one in text)
    return text


def _cut(data: Any, levels: int = _LEVELS) -> Any:
    """Return ``data`` with what is nested more deeply left out."""
    if isinstance(data, Mapping | list | tuple) and not levels:
        return "..."
    if isinstance(data, Mapping):
        return {name: _cut(value, levels - 1) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_cut(value, levels - 1) for value in data]
    return data


def _is_shown(character: str) -> bool:
    return character == "\n" or character.isprintable()


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    console = Console(stderr=stderr, highlight=False)
    if not stream.isatty() and not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=_UNLIMITED)
    return console
