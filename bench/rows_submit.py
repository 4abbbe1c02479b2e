"""Rows 1 to 3: handing tasks over."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from harness import Bench, Candidate, Metrics, Round, Row, Target, expect

MANY = "Client.submit_many"
MANY_ASYNC = "AsyncClient.submit_many"
EXECUTEMANY = "bare executemany"
CONCURRENT = "AsyncClient.submit, 100 callers"
HUEY = "huey, one thread"
HUEY_THREADS = "huey, 100 threads"
SERIAL = "Client.submit"
SERIAL_ASYNC = "AsyncClient.submit"
COMMITS = "bare commit per row"

LATENCY = (("rate", "/s"), ("p50", "ms p50"), ("p99", "ms p99"))
CALLERS = 100


def queued(where: Path) -> int:
    """Tasks in our file, counted by SQLite itself once everybody has closed it."""
    connection = sqlite3.connect(where / "tranship.db")
    try:
        return connection.execute("SELECT count(*) FROM task JOIN body USING(seq)").fetchone()[0]
    finally:
        connection.close()


def ours(function: str, **arguments: int):
    def measure(bench: Bench) -> Metrics:
        with bench.place() as where:
            found = bench.run(f"ours_submit:{function}", where, argument=bench.argument, **arguments)
            expect(f"{function}: tasks in the file", queued(where), found.pop("wanted"))
        return found

    return measure


def serial(function: str):
    return lambda bench: ours(function, amount=bench.amount(2000, 500))(bench)


def executemany(bench: Bench) -> Metrics:
    with bench.place() as where:
        found = bench.run("bound:executemany", where, amount=10_000, repeats=3)
        expect("executemany: rows in the file", found.pop("landed"), 200 + 3 * 10_000)
    return found


def commits(synchronous: str, full: int = 2000, quick: int = 500, *, every: float = 0.0):
    def measure(bench: Bench) -> Metrics:
        amount = bench.amount(full, quick)
        with bench.place() as where:
            found = bench.run("bound:commits", where, amount=amount, synchronous=synchronous, every=every)
            expect("commit per row: rows in the file", found.pop("landed"), 100 + amount)
        return found

    return measure


def huey(threads: int):
    def measure(bench: Bench) -> Metrics:
        with bench.place() as where:
            amount = bench.amount(2000, 500)
            found = bench.run("peer_huey:submit", where, amount=amount, argument=bench.argument, threads=threads)
            expect("huey: tasks pending", found.pop("landed"), found.pop("wanted"))
        return found

    return measure


def over(ours: str, *peers: str):
    """How many times the rate of the best of ``peers``."""

    def ratio(figures: Round) -> float:
        return figures[ours]["rate"] / max(figures[peer]["rate"] for peer in peers)

    return ratio


SUBMIT_MANY = Row(
    "submit-many",
    "`submit_many` of 10,000",
    [
        Candidate(MANY, ours("many", amount=10_000, repeats=3)),
        Candidate(MANY_ASYNC, ours("many_async", amount=10_000, repeats=3)),
        Candidate(EXECUTEMANY, executemany),
    ],
    [
        Target("Client.submit_many / bare executemany", over(MANY, EXECUTEMANY), 0.4, 0.5),
        Target("AsyncClient.submit_many / bare executemany", over(MANY_ASYNC, EXECUTEMANY), 0.4, 0.5),
    ],
    [
        (
            "One call with 10,000 tasks, three times, median; building the calls (where arguments are checked) and the "
            "handles is counted. The bound's rows are ready beforehand: one table, `id TEXT PRIMARY KEY, body`, one "
            "`executemany` in one transaction."
        ),
    ],
)

CONCURRENT_SUBMITS = Row(
    "concurrent",
    "100 concurrent submits",
    [
        Candidate(
            CONCURRENT,
            lambda bench: ours("concurrent", amount=bench.amount(10_000, 3000), callers=CALLERS)(bench),
        ),
        Candidate(HUEY, huey(1)),
        Candidate(HUEY_THREADS, huey(CALLERS)),
    ],
    [Target("100 callers / the better of huey's two", over(CONCURRENT, HUEY, HUEY_THREADS), 4, 8)],
    ["huey's enqueue blocks: one after the other, and from 100 threads (a connection each)."],
)

SERIAL_SUBMITS = Row(
    "serial",
    "serial submit",
    [
        Candidate(SERIAL, serial("serial"), LATENCY),
        Candidate(SERIAL_ASYNC, serial("serial_async"), LATENCY),
        Candidate(COMMITS, commits("FULL"), LATENCY),
    ],
    [
        Target("Client.submit / bare commit per row", over(SERIAL, COMMITS), 0.4, 0.5),
        Target("AsyncClient.submit / bare commit per row", over(SERIAL_ASYNC, COMMITS), 0.4, 0.5),
    ],
)
