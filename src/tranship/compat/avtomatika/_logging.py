"""Log records on stderr."""

from __future__ import annotations

import logging
import os

from tranship.errors import InvalidOptionError

__all__ = ["setup_logging"]


def setup_logging(worker_id: str | None = None) -> None:
    """Write log records to stderr, unless something else has been set up; ``LOG_LEVEL`` says how many (``INFO``).

    Args:
        worker_id: put before each record; None: nothing is.

    Raises:
        InvalidOptionError: ``LOG_LEVEL`` is no level.
    """
    level = os.environ.get("LOG_LEVEL") or "INFO"
    known = logging.getLevelNamesMapping()
    if level.upper() not in known:
        raise InvalidOptionError(f"LOG_LEVEL is {level!r}; expected one of {', '.join(known)}", option="LOG_LEVEL")
    # A name may have what the format would take for its own.
    who = "" if worker_id is None else worker_id.replace("%", "%%") + " "
    logging.basicConfig(level=known[level.upper()], format=f"%(asctime)s {who}%(levelname)s %(name)s: %(message)s")
