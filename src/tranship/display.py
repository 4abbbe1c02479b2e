"""Strangers' text where people see it: on a terminal and in logs.

Whoever may write to a broker chooses the names of tasks, queues and workers, the messages of errors and more. Printed
as it is, such a text moves the cursor, hides or recolours what stands beside it, or looks like a line of its own. What
cannot be printed is escaped as in a Python literal, at the two places through which all of it goes: the command line's
output, and the loggers named ``tranship``. Whatever handlers and formatters an application has, they get records that
are safe; nobody has to remember it where something is logged.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import Final

__all__ = ["guard_loggers", "visible", "visible_lines"]

_ROOT: Final = "tranship"
_UNINDENTED: Final = re.compile(r"\n(?!\n*  )")
"""A line feed behind which a line would begin that could be taken for a record, or an answer, of its own."""


def visible(text: str) -> str:
    """Return ``text`` in one line, with what cannot be printed (controls, directions, halves of characters) escaped."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def visible_lines(text: str) -> str:
    """Return the same of a text of several lines, such as a traceback: line feeds and tabs stay."""
    return text if text.isprintable() else "".join(one if one in "\n\t" else _escaped(one) for one in text)


def guard_loggers(root: str = _ROOT) -> None:
    """Have every logger whose name begins with ``root`` escape what it is given; again for those that came since.

    The registry does it whenever it makes a backend: then the modules that log are there, those of plugins as well.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (name == root or name.startswith(f"{root}.")):
            logger.addFilter(_ESCAPING)


class _Escaping(logging.Filter):
    """Escapes the message of a record, and its traceback. A record that is clean stays as it is."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record."""
        try:
            _clean_message(record)
            _clean_traceback(record)
        except Exception:  # noqa: BLE001 - one that cannot be formatted: its handler says so
            return True
        return True


_ESCAPING: Final = _Escaping()


def _clean_message(record: logging.LogRecord) -> None:
    text = record.getMessage()
    if text.isprintable():
        return
    # Lines of ours, such as those of a stack, are indented; a line that is not is somebody's who wants to be believed.
    clean = _UNINDENTED.sub(r"\\n", visible_lines(text))
    if clean != text:
        record.msg, record.args = clean, None


def _clean_traceback(record: logging.LogRecord) -> None:
    error = record.exc_info[1] if record.exc_info else None
    if error is None or record.exc_text:
        return
    parts = list(traceback.TracebackException.from_exception(error).format())
    clean = "".join(part if part.isprintable() else _indented(part) for part in parts)
    if clean != "".join(parts):
        # Formatters take it instead of formatting the exception themselves.
        record.exc_text = clean.rstrip("\n")


def _indented(part: str) -> str:
    """Return a part of a traceback with the further lines of an exception's message indented."""
    text = visible_lines(part)
    if part.startswith(" "):
        return text
    return text[:-1].replace("\n", "\n    ") + text[-1:]


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
