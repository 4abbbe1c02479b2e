"""Logging of a command: in colour on a terminal, plain lines elsewhere, JSON if asked for; always on stderr."""

from __future__ import annotations

import logging
import sys

__all__ = ["TextLines", "set_up_logging"]


def set_up_logging(*, usual: int, verbose: int, quiet: bool, json_lines: bool = False) -> None:
    """Show log records from ``usual`` upwards, or more, or less.

    Handlers that are there already (the user's module configured logging) are left alone.
    """
    level = _level(usual, verbose, quiet=quiet)
    logging.getLogger("tranship").setLevel(level)
    root = logging.getLogger()
    if root.handlers:
        return
    root.setLevel(max(level, logging.INFO) if verbose < 2 else level)
    if json_lines:
        root.addHandler(_json_lines())
    else:
        root.addHandler(_coloured() if sys.stderr.isatty() else _plain())


def _level(usual: int, verbose: int, *, quiet: bool) -> int:
    if quiet:
        return logging.ERROR
    return max(logging.DEBUG, usual - 10 * verbose)


class TextLines(logging.Formatter):
    """Says of what a handler logs through ``current().logger`` whose it is, as the worker's own lines do."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        if record.name == "tranship.task" and hasattr(record, "id"):
            record.message = f"task {record.id}: {record.message}"
        return super().formatMessage(record)


def _coloured() -> logging.Handler:
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
    handler.setFormatter(TextLines("%(message)s"))
    return handler


def _json_lines() -> logging.Handler:
    from tranship.cli._json_lines import JsonLines

    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    return handler


def _plain() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(TextLines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler
