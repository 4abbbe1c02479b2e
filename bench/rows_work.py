"""Rows 4 to 6: with a worker in a process of its own."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from harness import CONSUMER, PRODUCER, Bench, Candidate, Metrics, Round, Row, Target, expect
from rows_submit import commits, over

WARM = 200
ROUND_TRIP = (("p50", "ms p50"), ("p99", "ms p99"))

DRAIN = "async def, 10 at once (default)"
DRAIN_100 = "async def, 100 at once"
DRAIN_DEF = "def, 10 at once (default)"
DRAIN_DEF_100 = "def, 100 at once"
HUEY = "huey, bare loop"
LITEQUEUE = "litequeue (NORMAL, no results)"
KOMBU = "kombu SQLAlchemy (no results)"
PEERS = (HUEY, LITEQUEUE, KOMBU)

FULL = "bare commit, FULL"
NORMAL = "bare commit, NORMAL"
ASYNC = "AsyncClient, power"
BLOCKING = "Client, power"
ASYNC_PROCESS = "AsyncClient, process"
BLOCKING_PROCESS = "Client, process"

WAKE = "idle worker woken, power"
WAKE_PROCESS = "idle worker woken, process"
APART = "bare commit, FULL, 15 ms apart"
APART_PROCESS = "bare commit, NORMAL, 15 ms apart"
IDLE = "idle worker"


# Draining.


def ours(task: str, limit: int | None):
    def measure(bench: Bench) -> Metrics:
        amount = bench.amount(10_000, 2000)
        with bench.place() as where:
            bench.run("ours_work:fill", where, on=PRODUCER, task=task, amount=amount + WARM, argument=bench.argument)
            found = bench.run("ours_work:drain", where, on=CONSUMER, amount=amount, warm=WARM, limit=limit)
            expect("tasks left and results stored", left(where), (0, 0, amount + WARM))
            expect("deliveries settled", found.pop("done"), amount + WARM)
        return found

    return measure


def left(where: Path) -> tuple[int, int, int]:
    """Tasks and dead letters still in the file, and successful results, once everybody has closed it."""
    connection = sqlite3.connect(where / "tranship.db")
    try:
        # A table of its own for each of them: the layout of checkouts before the driver kit.
        old = connection.execute("SELECT 1 FROM sqlite_master WHERE name='result'").fetchone()
        dead, results = (
            ("dead", "result WHERE state='SUCCESS'")
            if old
            else (
                "row WHERE key GLOB 'd/*'",
                "row WHERE key GLOB 'r/*' AND CAST(value AS TEXT) GLOB 'SUCCESS*'",
            )
        )
        counts = f"SELECT (SELECT count(*) FROM task), (SELECT count(*) FROM {dead}), (SELECT count(*) FROM {results})"
        return connection.execute(counts).fetchone()
    finally:
        connection.close()


def peer(module: str, full: int, quick: int):
    def measure(bench: Bench) -> Metrics:
        amount, warm = bench.amount(full, quick), 50
        with bench.place() as where:
            filled = bench.run(f"{module}:fill", where, on=PRODUCER, amount=amount + warm, argument=bench.argument)
            expect(f"{module}: messages in the file", filled, amount + warm)
            found = bench.run(f"{module}:drain", where, on=CONSUMER, amount=amount, warm=warm)
            expect(f"{module}: messages left", found.pop("left"), 0)
            expect(f"{module}: results stored", found.pop("results", amount + warm), amount + warm)
        return found

    return measure


DRAINING = Row(
    "drain",
    "drain with results, one process",
    [
        Candidate(DRAIN, ours("noop", None)),
        Candidate(DRAIN_100, ours("noop", 100)),
        Candidate(DRAIN_DEF, ours("noop_def", None)),
        Candidate(DRAIN_DEF_100, ours("noop_def", 100)),
        Candidate(HUEY, peer("peer_huey", 2000, 1000)),
        Candidate(LITEQUEUE, peer("peer_litequeue", 2000, 2000)),
        Candidate(KOMBU, peer("peer_kombu", 600, 200)),
    ],
    [
        Target(f"{name} / the best peer", over(name, *PEERS), 2.5, 5)
        for name in (DRAIN, DRAIN_100, DRAIN_DEF, DRAIN_DEF_100)
    ],
    [
        (
            "tranship drains 10,000 tasks; the peers fewer (huey and litequeue 2,000, kombu 600), which favours them: "
            "litequeue and kombu keep what is done and become slower with it. huey runs a bare loop of dequeue and "
            "execute, faster than its consumer, and stores its results; litequeue and kombu store none."
        ),
    ],
)


# Round trips.


def roundtrip(function: str, durability: str):
    def measure(bench: Bench) -> Metrics:
        amount = bench.amount(400, 150)
        with (
            bench.place() as where,
            bench.child("ours_work:serve", where, on=CONSUMER, durability=durability) as worker,
        ):
            worker.wait_ready()
            found = bench.run(
                f"ours_work:{function}",
                where,
                on=PRODUCER,
                amount=amount,
                warm=50,
                argument=bench.argument,
                durability=durability,
            )
            expect("round trips that the worker did", worker.finish()["done"], amount + 50)
        return found

    return measure


def times(ours: str, bound: str):
    """How many bare commits fit into one p50."""

    def ratio(figures: Round) -> float:
        return figures[ours]["p50"] / figures[bound]["p50"]

    return ratio


def milliseconds(name: str, metric: str = "p50"):
    return lambda figures: figures[name][metric]


ROUND_TRIPS = Row(
    "round-trip",
    "round trip of a no-op between two processes",
    [
        Candidate(FULL, commits("FULL"), ROUND_TRIP),
        Candidate(ASYNC, roundtrip("roundtrip_async", "power"), ROUND_TRIP),
        Candidate(BLOCKING, roundtrip("roundtrip", "power"), ROUND_TRIP),
        Candidate(NORMAL, commits("NORMAL"), ROUND_TRIP),
        Candidate(ASYNC_PROCESS, roundtrip("roundtrip_async", "process"), ROUND_TRIP),
        Candidate(BLOCKING_PROCESS, roundtrip("roundtrip", "process"), ROUND_TRIP),
    ],
    [
        Target("AsyncClient p50, in bare commits", times(ASYNC, FULL), 8, 6, lower=True),
        Target("Client p50, in bare commits", times(BLOCKING, FULL), 8, 6, lower=True),
        Target("AsyncClient p50, durability=process", milliseconds(ASYNC_PROCESS), 1.0, 0.6, lower=True, unit="ms"),
        Target("Client p50, durability=process", milliseconds(BLOCKING_PROCESS), 1.0, 0.6, lower=True, unit="ms"),
    ],
    [
        "Submit, run in the other process, result back, one after the other. A bare commit is one INSERT with its commit."
    ],
)


# Waking.


EVERY = 0.015


def wake(durability: str):
    def measure(bench: Bench) -> Metrics:
        amount = bench.amount(300, 100)
        with (
            bench.place() as where,
            bench.child("ours_work:serve", where, on=CONSUMER, durability=durability) as worker,
        ):
            worker.wait_ready()
            found = bench.run(
                "ours_work:wake",
                where,
                on=PRODUCER,
                amount=amount,
                warm=20,
                argument=bench.argument,
                every=EVERY,
                durability=durability,
            )
            expect("tasks that the worker did", worker.finish()["done"], found.pop("wanted"))
        return found

    return measure


def idle(bench: Bench) -> Metrics:
    seconds = bench.amount(5, 2)
    with bench.place() as where, bench.child("ours_work:serve", where, on=CONSUMER, durability="power") as worker:
        worker.wait_ready()
        time.sleep(1.5)  # start-up, and the first checkpoint after it, are not what is asked for
        before, begun = processor_time(worker.pid), time.monotonic()
        time.sleep(seconds)
        used, passed = processor_time(worker.pid) - before, time.monotonic() - begun
        worker.finish()
    return {"percent": 100 * used / passed}


def processor_time(pid: int) -> float:
    """Seconds of CPU that another process has used, all threads; Linux's numbering of process clocks."""
    return time.clock_gettime((~pid << 3) | 2)


WOKEN = (*ROUND_TRIP, ("accepted", "ms until submit returned"), ("after_accepted", "ms from there to the handler"))

WAKING = Row(
    "wake",
    "waking an idle worker, no polling loop",
    [
        Candidate(APART, commits("FULL", 300, 100, every=EVERY), ROUND_TRIP),
        Candidate(WAKE, wake("power"), WOKEN),
        Candidate(WAKE_PROCESS, wake("process"), WOKEN),
        Candidate(APART_PROCESS, commits("NORMAL", 300, 100, every=EVERY), ROUND_TRIP),
        Candidate(IDLE, idle, (("percent", "% CPU"),)),
    ],
    [
        Target("start of submit to start of handler, p50", milliseconds(WAKE), 1.0, 0.4, lower=True, unit="ms"),
        Target("the same, durability=process", milliseconds(WAKE_PROCESS), 1.0, 0.4, lower=True, unit="ms"),
        Target(
            "submit returned to start of handler, p50",
            milliseconds(WAKE, "after_accepted"),
            1.0,
            0.4,
            lower=True,
            unit="ms",
        ),
    ],
    [
        (
            "Submits 15 ms apart from another process, on the host's clock. The first figure includes the durable commit, "
            "whose own time at the same distance is the bound: after 15 ms of idleness caches and disk are cold."
        ),
    ],
)
