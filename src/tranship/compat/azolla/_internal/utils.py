"""Logging, under the path that Azolla's document has for it."""

from __future__ import annotations

import logging

from tranship.checks import one_of, text

__all__ = ["get_logger", "setup_logging"]


def setup_logging(level: str = "INFO") -> None:
    """Show the log from ``level`` upwards on stderr, a line each: when, which logger, how bad, what.

    Handlers that are there already are left alone, as :func:`logging.basicConfig` does.

    Raises:
        InvalidOptionError: there is no such level.
    """
    known = logging.getLevelNamesMapping()
    logging.basicConfig(
        level=known[one_of("level", text("level", level).upper(), known)],
        format="%(asctime)s - %(name)s - %(levelname)s - %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )


def get_logger(name: str) -> logging.Logger:
    """Return the logger of that name."""
    return logging.getLogger(name)
