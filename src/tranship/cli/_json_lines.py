"""Log records as JSON, one a line: for what collects logs."""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import Any, Final

__all__ = ["JsonLines"]

_USUAL: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
"""What every record has."""


class JsonLines(logging.Formatter):
    """``time``, ``level``, ``logger``, ``message``, ``exception`` where there is one, and all fields of ``extra``.

    ``message_template`` is the text before its values are filled in: the same for all records of one kind.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record in one line."""
        shown: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "message_template": str(record.msg),
        }
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        # What somebody else's extra names as we name ours does not hide it.
        fields = {name: value for name, value in vars(record).items() if name not in _USUAL and name not in shown}
        return json.dumps({**shown, **fields}, default=str, ensure_ascii=False)
