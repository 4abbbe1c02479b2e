"""Tables and indexes.

* The hot row (``task``) and what travels (``body``) are apart: claims touch only the former until the end.
* ``seq`` is AUTOINCREMENT, so that a deleted row's number is never used again and a late settlement cannot
  hit somebody else's task.
* Partial indexes have an equality literal each: SQLite would not use ``state>0`` for ``state=1``.
  ``state`` is a column of theirs too, or counting would read every row.
* ``ns`` is the namespace's number: two namespaces in one file never see each other.
* Times are epoch seconds, but ``due`` of a leased row, which is on the lease clock.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from tranship.backends.sqlite._clock import boot_id
from tranship.errors import BrokerRefused

__all__ = ["APPLICATION_ID", "DELAYED", "LEASED", "READY", "VERSION", "create", "namespace"]

VERSION: Final = 1
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
    """CREATE TABLE result(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL,
        expires REAL NOT NULL, reply_to TEXT, document BLOB NOT NULL, UNIQUE(ns, id))""",
    "CREATE INDEX result_expires ON result(expires)",
    """CREATE TABLE dead(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, id TEXT NOT NULL, task_id TEXT NOT NULL,
        queue TEXT NOT NULL, priority INTEGER NOT NULL, attempt INTEGER NOT NULL, cancel_key TEXT,
        reason TEXT NOT NULL, detail TEXT NOT NULL, deliveries INTEGER NOT NULL, died REAL NOT NULL,
        content_type TEXT, content_encoding TEXT, reply_to TEXT, headers BLOB NOT NULL, body BLOB NOT NULL,
        UNIQUE(ns, id))""",
    "CREATE INDEX dead_task ON dead(ns, task_id)",
    "CREATE INDEX dead_queue ON dead(ns, queue, seq)",
    """CREATE TABLE dedup(
        ns INTEGER NOT NULL, key TEXT NOT NULL, id TEXT NOT NULL, expires REAL NOT NULL,
        PRIMARY KEY(ns, key)) WITHOUT ROWID""",
    "CREATE INDEX dedup_expires ON dedup(expires)",
    """CREATE TABLE signal(
        seq INTEGER PRIMARY KEY AUTOINCREMENT, ns INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL,
        expires REAL NOT NULL)""",
    "CREATE INDEX signal_value ON signal(ns, kind, value)",
    "CREATE INDEX signal_expires ON signal(expires)",
    """CREATE TABLE worker(
        ns INTEGER NOT NULL, name TEXT NOT NULL, at REAL NOT NULL, beat TEXT NOT NULL,
        PRIMARY KEY(ns, name)) WITHOUT ROWID""",
    """CREATE TABLE peer(
        address TEXT PRIMARY KEY, ns INTEGER NOT NULL, wants INTEGER NOT NULL, queues TEXT NOT NULL,
        seen REAL NOT NULL)
        WITHOUT ROWID""",
    "CREATE TABLE space(ns INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
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
    elif version > VERSION:
        raise BrokerRefused(
            f"the database {path} has layout {version}, this version of tranship knows {VERSION}; upgrade tranship"
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
    boot = boot_id()
    known = connection.execute("SELECT value FROM meta WHERE key='boot'").fetchone()
    if not boot or (known and known[0] == boot):
        return
    connection.execute("UPDATE task SET state=0, due=NULL, owner=NULL WHERE state=2")
    connection.execute("DELETE FROM peer")
    connection.execute("INSERT OR REPLACE INTO meta VALUES('boot', ?)", (boot,))
