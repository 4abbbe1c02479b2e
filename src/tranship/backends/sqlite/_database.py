"""The file as a database: its tables and indexes, how a connection to it is opened, its two clocks, and what its
errors mean.

* The hot row (``task``) and what travels (``body``) are apart: claims touch only the former until the end.
* ``seq`` is AUTOINCREMENT, so that a deleted row's number is never used again: a late settlement cannot hit somebody
  else's task, and whoever has read up to a number misses nothing.
* Partial indexes have an equality literal each: SQLite would not use ``state>0`` for ``state=1``.
  ``state`` is a column of theirs too, or counting would read every row.
* ``ns`` is the namespace's number: two namespaces in one file never see each other.
* Times are epoch seconds, but ``due`` of a leased row, which is on the lease clock.
"""

from __future__ import annotations

import errno
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    ClosedError,
    MessageTooLarge,
    StorageCorrupt,
    StorageFull,
    TranshipError,
    UnsupportedError,
)

__all__ = [
    "APPLICATION_ID",
    "CACHED",
    "DELAYED",
    "LEASED",
    "OLDEST",
    "READY",
    "VERSION",
    "again",
    "concerns_storage",
    "create",
    "explain",
    "is_busy",
    "lease_clock",
    "namespace",
    "open_reader",
    "open_writer",
]

OLDEST: Final = (3, 34, 0)
CACHED: Final = 256
"""Prepared statements kept by a connection."""

VERSION: Final = 2
APPLICATION_ID: Final = 0x74726E73
"""The letters ``trns``."""

READY: Final = 0
DELAYED: Final = 1
LEASED: Final = 2

_TABLES: Final = (
    """CREATE TABLE task(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, id TEXT NOT NULL, queue TEXT NOT NULL,
        priority INTEGER NOT NULL, state INTEGER NOT NULL, due REAL, fence INTEGER NOT NULL DEFAULT 0,
        deliveries INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL, enqueued REAL NOT NULL,
        cancel_key TEXT, owner TEXT, UNIQUE(ns, id))""",
    "CREATE INDEX task_ready ON task(ns, queue, priority, seq, state) WHERE state=0",
    "CREATE INDEX task_delayed ON task(due, ns, queue, state) WHERE state=1",
    "CREATE INDEX task_leased ON task(due, ns, queue, state) WHERE state=2",
    "CREATE INDEX task_cancel ON task(ns, cancel_key) WHERE cancel_key IS NOT NULL",
    """CREATE TABLE body(
        seq INTEGER PRIMARY KEY, content_type TEXT, content_encoding TEXT, reply_to TEXT,
        headers BLOB NOT NULL, body BLOB NOT NULL)""",
    """CREATE TABLE row(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
        expires REAL, told, UNIQUE(ns, key))""",
    "CREATE INDEX row_expires ON row(expires) WHERE expires IS NOT NULL",
    """CREATE TABLE signal(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,
        expires REAL NOT NULL)""",
    "CREATE INDEX signal_expires ON signal(expires)",
    """CREATE TABLE peer(
        address TEXT PRIMARY KEY, ns INTEGER NOT NULL, wants INTEGER NOT NULL, queues TEXT NOT NULL,
        seen REAL NOT NULL)
        WITHOUT ROWID""",
    "CREATE TABLE space(ns INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
)


def open_writer(path: Path, *, busy_timeout: float) -> sqlite3.Connection:
    """Open the one connection that writes, in WAL mode; call it under the side lock.

    Raises:
        UnsupportedError: SQLite is too old, or the storage cannot do WAL.
        sqlite3.Error: what SQLite says.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise UnsupportedError(
            f"SQLite {sqlite3.sqlite_version} is too old; tranship needs {'.'.join(map(str, OLDEST))} or later"
        )
    # The timeout is for foreign programs: our own processes wait at the side lock.
    connection = sqlite3.connect(
        path, timeout=busy_timeout, isolation_level=None, check_same_thread=False, cached_statements=CACHED
    )
    try:
        refuse_foreign(connection, str(path))
        # Only before the first table; freed pages can be given back in small steps.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        _write_ahead(connection, path, busy_timeout)
        for pragma in ("secure_delete=OFF", "temp_store=MEMORY", "cache_size=-16000", "wal_autocheckpoint=0"):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the connection for point reads on the loop's thread; it never waits for a lock."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED,
    )
    for pragma in ("query_only=1", "temp_store=MEMORY", "cache_size=-4000", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _write_ahead(connection: sqlite3.Connection, path: Path, patience: float) -> None:
    # "locked" in spite of the timeout was seen when several processes open a new file at once.
    until = time.monotonic() + patience
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
            time.sleep(0.005)
    if mode != "wal":
        raise UnsupportedError(
            f"the storage of {path} cannot do write-ahead logging (SQLite answered {mode!r}); use a local disk"
        )


def create(connection: sqlite3.Connection, path: str) -> None:
    """Make the tables if there are none yet; end all leases that were written before the last boot.

    Call it in a transaction.

    Raises:
        BrokerRefused: the file is another application's, or a newer version's.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        _claim_file(connection, path)
    elif version != VERSION:
        cure = (
            "upgrade tranship"
            if version > VERSION
            else "finish its tasks with the version that made it, or move it away"
        )
        raise BrokerRefused(
            f"the database {path} has layout {version}, this version of tranship knows {VERSION}; {cure}"
        )
    _after_boot(connection)


def refuse_foreign(connection: sqlite3.Connection, path: str) -> None:
    """Leave a database with somebody else's tables alone.

    Raises:
        BrokerRefused: it is one.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise BrokerRefused(f"the database {path} belongs to another application; give another file name")


def namespace(connection: sqlite3.Connection, name: str) -> int:
    """Return the number of the namespace ``name``, in a transaction; a new name gets a new one."""
    connection.execute("INSERT INTO space(name) VALUES(?) ON CONFLICT(name) DO NOTHING", (name,))
    (number,) = connection.execute("SELECT ns FROM space WHERE name=?", (name,)).fetchone()
    return int(number)


def _claim_file(connection: sqlite3.Connection, path: str) -> None:
    refuse_foreign(connection, path)
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")


def _after_boot(connection: sqlite3.Connection) -> None:
    boot = _boot_id()
    known = connection.execute("SELECT value FROM meta WHERE key='boot'").fetchone()
    if not boot or (known and known[0] == boot):
        return
    connection.execute("UPDATE task SET state=0, due=NULL, owner=NULL WHERE state=2")
    connection.execute("DELETE FROM peer")
    connection.execute("INSERT OR REPLACE INTO meta VALUES('boot', ?)", (boot,))


def lease_clock() -> float:
    """Seconds on the clock that lease ends are written in.

    On Linux it is the monotonic clock, which all processes of a host share: neither a step of the wall clock
    nor a laptop's sleep ends a lease. A new boot id says that its values have lost their meaning.
    Elsewhere it is the wall clock.
    """
    return time.monotonic() if sys.platform == "linux" else time.time()


def _boot_id() -> str:
    """What changes with every boot, or an empty text where that cannot be told."""
    if sys.platform != "linux":
        return ""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


# What its errors mean.

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
