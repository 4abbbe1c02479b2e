"""SQLite's errors and the system's as ours, with the file named."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Mapping
from typing import Final

from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    ClosedError,
    MessageTooLarge,
    StorageCorrupt,
    StorageFull,
    TranshipError,
)

__all__ = ["again", "concerns_storage", "explain", "is_busy"]

_BUSY: Final = frozenset({5, 6})
"""SQLITE_BUSY and SQLITE_LOCKED."""

_IOERR_WRITE: Final = 778
"""What a quota or a file size limit looks like; a full device is SQLITE_FULL."""

_FULL = (StorageFull, "has no room left (disk, quota or file size limit); nothing was stored, free some space")
_UNREACHABLE = (BrokerUnreachable, "could not be read or written")

_MEANINGS: Final[Mapping[int, tuple[type[TranshipError], str]]] = {
    3: (BrokerRefused, "may not be used by this user; check the rights of the file and its directory"),
    5: (BrokerUnreachable, "is locked by another program; try again, or raise busy_timeout"),
    6: (BrokerUnreachable, "is locked by another program; try again, or raise busy_timeout"),
    8: (BrokerRefused, "cannot be written; check the rights of the file and its directory"),
    11: (StorageCorrupt, "is damaged; restore it from a backup or move it away"),
    13: _FULL,
    14: (BrokerRefused, "cannot be opened; its directory must exist and be writable"),
    18: (MessageTooLarge, "does not take a value this large"),
    23: (BrokerRefused, "may not be used by this user"),
    26: (StorageCorrupt, "is not an SQLite database; give another file name, or move it away"),
}


def explain(error: BaseException, path: str) -> TranshipError:
    """Return our error for ``error``, with ``error`` as its cause."""
    found = error if isinstance(error, TranshipError) else _translate(error, path)
    if found is not error:
        found.__cause__ = error
    return found


def again(error: TranshipError) -> TranshipError:
    """Return a fresh exception like ``error``, for the next of several callers."""
    copy = type(error)(str(error))
    copy.__cause__ = error.__cause__
    return copy


def concerns_storage(error: BaseException) -> bool:
    """Whether the whole database is affected, and not only the statement that met the error."""
    return isinstance(error, OSError | TranshipError) or (
        isinstance(error, sqlite3.Error) and _code(error) & 0xFF not in (0, 1, 18, 19, 20, 25)
    )


def is_busy(error: BaseException) -> bool:
    """Whether somebody else holds SQLite's own lock."""
    return isinstance(error, sqlite3.Error) and _code(error) & 0xFF in _BUSY


def _translate(error: BaseException, path: str) -> TranshipError:
    if isinstance(error, sqlite3.Error):
        kind, text = _meaning(error)
        return kind(f"the database {path} {text} ({error})")
    if isinstance(error, OSError):
        kind, text = _FULL if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else _UNREACHABLE
        if isinstance(error, PermissionError):
            kind, text = _MEANINGS[3]
        return kind(f"the database {path} {text} ({error})")
    return TranshipError(f"the database {path} refused a value ({error!r})")


def _meaning(error: sqlite3.Error) -> tuple[type[TranshipError], str]:
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return ClosedError, "has been closed; open a new backend"
    code = _code(error)
    if code == _IOERR_WRITE:
        return _FULL
    if code & 0xFF in (0, 1, 19, 20, 25):
        return TranshipError, "refused a statement"
    return _MEANINGS.get(code & 0xFF, _UNREACHABLE)


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code
