"""Logging of a command: in colour on a terminal, plain lines elsewhere, always on stderr."""

from __future__ import annotations

import logging
import sys

__all__ = ["set_up_logging"]


def set_up_logging(*, usual: int, verbose: int, quiet: bool) -> None:
    """Show log records from ``usual`` upwards, or more, or less.

    Handlers that are there already (the user's module configured logging) are left alone.
    """
    level = _level(usual, verbose, quiet=quiet)
    logging.getLogger("tranship").setLevel(level)
    root = logging.getLogger()
    if root.handlers:
        return
    root.setLevel(max(level, logging.INFO) if verbose < 2 else level)
    root.addHandler(_coloured() if sys.stderr.isatty() else _plain())


def _level(usual: int, verbose: int, *, quiet: bool) -> int:
    if quiet:
        return logging.ERROR
    return max(logging.DEBUG, usual - 10 * verbose)


def _coloured() -> logging.Handler:
    from rich.console import Console
    from rich.logging import RichHandler

    return RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")


def _plain() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler
