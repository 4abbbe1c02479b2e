"""The bounds: what SQLite itself can do with the same pragmas, nothing around it."""

from __future__ import annotations

import os
import secrets
import sqlite3
import statistics
import time

from harness import percentile

LENGTH = 1233
"""As long as the captured message that all our measurements use."""


def connect(synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect("bound.db", isolation_level=None)
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    assert mode == "wal", mode
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA cache_size=-16000")
    connection.execute("PRAGMA secure_delete=OFF")
    connection.execute("CREATE TABLE message(id TEXT PRIMARY KEY, body BLOB NOT NULL)")
    return connection


def rows(count: int) -> list[tuple[str, bytes]]:
    """Ready beforehand; ids in order of time, as tranship's are, and bodies of their own, as messages have."""
    begun = time.time_ns() // 1000
    ids = [f"{begun + number:014x}{secrets.token_hex(9)}" for number in range(count)]
    return [(one, one.encode().ljust(LENGTH, b"x")) for one in ids]


def count(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM message").fetchone()[0]


def executemany(amount: int, repeats: int, synchronous: str = "FULL"):
    """Rows per second of one executemany in one transaction."""
    connection = connect(synchronous)
    insert = "INSERT INTO message VALUES(?, ?)"
    seconds = []
    connection.executemany(insert, rows(200))
    for _ in range(repeats):
        ready = rows(amount)
        begun = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, ready)
        connection.execute("COMMIT")
        seconds.append(time.perf_counter() - begun)
    return {"rate": amount / statistics.median(seconds), "landed": count(connection)}


def commits(amount: int, synchronous: str = "FULL", every: float = 0.0):
    """Rows per second, and the time of one, with a commit per row; ``every`` seconds apart or at once."""
    connection = connect(synchronous)
    insert = "INSERT INTO message VALUES(?, ?)"
    for row in rows(100):
        connection.execute(insert, row)
    seconds = []
    begun = last = time.perf_counter()
    for row in rows(amount):
        connection.execute(insert, row)
        now = time.perf_counter()
        seconds.append(now - last)
        if every:
            time.sleep(every)
            now = time.perf_counter()
        last = now
    return {
        "rate": amount / (last - begun),
        "p50": percentile(seconds, 0.5) * 1e3,
        "p99": percentile(seconds, 0.99) * 1e3,
        "landed": count(connection),
    }


def sync(amount: int = 200):
    """Milliseconds of one fdatasync after a write of a page, p50."""
    seconds = []
    with open("sync.bin", "wb", buffering=0) as file:  # noqa: PTH123
        for _ in range(amount):
            file.write(b"\0" * 4096)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - begun)
    return {"p50": percentile(seconds, 0.5) * 1e3}
