"""Opening a connection with everything set and checked."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from tranship.backends.sqlite._faults import is_busy
from tranship.backends.sqlite._schema import refuse_foreign
from tranship.errors import UnsupportedError

__all__ = ["CACHED", "OLDEST", "open_reader", "open_writer"]

OLDEST: Final = (3, 34, 0)
CACHED: Final = 256
"""Prepared statements kept by a connection."""


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
