"""The clients of Sandai operators, beside the original ones: the document's pressure test, and what one call costs."""

from __future__ import annotations

from contextlib import contextmanager

from harness import PRODUCER, Bench, Candidate, Metrics, Row, Target, expect
from peer_operator import QUEUES
from rows_redis_submit import NO_GOAL
from rows_submit import over
from rows_work import ROUND_TRIP
from server import WORKER, redis_server

OURS, THEIRS = "tranship.compat.sandai", "sandai.operator_client"
BARE = "bare: one LPUSH, one subscription"
PRESSED = (("wall", "s"), ("connections", "connections"), ("cpu", "s CPU"))
REQUESTS = 480
SHAPES = {
    "64 threads, one client": ("one_client", {"callers": 64}),
    "64 threads, a client each": ("client_per_thread", {"callers": 64}),
    "192 callers on one loop": ("one_loop", {"callers": 192}),
    "8 loops with 48 callers each": ("many_loops", {"callers": 48, "loops": 8}),
}


@contextmanager
def operator(bench: Bench, *, concurrency: int, seconds: float):
    """A Redis with an operator on plain Celery at work."""
    arguments = {"concurrency": concurrency, "seconds": seconds}
    with (
        redis_server(bench) as server,
        bench.child("peer_operator:operate", server.where, on=WORKER, **arguments) as serving,
    ):
        serving.wait_ready()
        yield server
        serving.finish()


def pressure(target: str, **arguments: object):
    def measure(bench: Bench) -> Metrics:
        with operator(bench, concurrency=64, seconds=0.3) as server:
            found = bench.run(target, server.where, on=PRODUCER, requests=REQUESTS, **arguments)
            left = found.pop("left", 0)
            if arguments.get("package") == OURS:
                expect(f"{target}: connections that are left", left, 0)
        return found

    return measure


def shape(name: str, package: str) -> Candidate:
    function, arguments = SHAPES[name]
    who = "tranship" if package == OURS else "original"
    measure = pressure(f"clients_operator:{function}", package=package, **arguments)
    return Candidate(f"{who}, {name}", measure, PRESSED)


def walls(name: str):
    return lambda found: found[f"tranship, {name}"]["wall"] / found[BARE]["wall"]


PRESSURE = Row(
    "pressure",
    "480 tasks of 300 ms, an operator with 64 threads",
    [
        Candidate(BARE, pressure("peer_operator:bare"), PRESSED),
        *(shape(name, package) for name in SHAPES for package in (OURS, THEIRS)),
    ],
    [
        *(Target(f"{name} / bare", walls(name), 1.15, 1.05, lower=True) for name in SHAPES),
        *(
            Target(
                f"{name}: connections",
                lambda found, name=name: found[f"tranship, {name}"]["connections"],
                4,
                2,
                lower=True,
                unit="",
            )
            for name in SHAPES
        ),
    ],
    [
        "The pressure test of the document of sandai-operator-client 0.6.0; the ideal is 2.25 s.",
        "The operator is the same for all: plain Celery, -P threads -c 64. Connections are those of the client's process.",
    ],
)


def calls(function: str, package: str, full: int, quick: int, **arguments: object):
    def measure(bench: Bench) -> Metrics:
        with redis_server(bench) as server:
            amount = bench.amount(full, quick)
            target = f"clients_operator:{function}"
            found = bench.run(target, server.where, on=PRODUCER, package=package, amount=amount, **arguments)
            landed = server.client.llen(QUEUES[1])
            expect(f"{package} {function}: tasks in the list", landed, found.pop("wanted"))
        return found

    return measure


SERIAL, CONCURRENT = "async_call, one after the other", "async_call, 100 callers on one loop"

CALLS = Row(
    "async-call",
    "handing a task over",
    [
        Candidate(f"tranship, {SERIAL}", calls("serial_calls", OURS, 5000, 1500)),
        Candidate(f"original, {SERIAL}", calls("serial_calls", THEIRS, 500, 200)),
        Candidate(f"tranship, {CONCURRENT}", calls("concurrent_calls", OURS, 10_000, 3000, callers=100)),
        Candidate(f"original, {CONCURRENT}", calls("concurrent_calls", THEIRS, 500, 200, callers=100)),
    ],
    [
        Target(f"{name}, over the original", over(f"tranship, {name}", f"original, {name}"), 15, NO_GOAL)
        for name in (SERIAL, CONCURRENT)
    ],
)


def answered(package: str, full: int, quick: int):
    def measure(bench: Bench) -> Metrics:
        with operator(bench, concurrency=4, seconds=0.0) as server:
            amount = bench.amount(full, quick)
            return bench.run("clients_operator:serial_sync", server.where, on=PRODUCER, package=package, amount=amount)

    return measure


def p50s(found) -> float:
    return found["tranship, sync"]["p50"] / found["original, sync"]["p50"]


ANSWERS = Row(
    "sync",
    "serial sync of a task that does nothing",
    [
        Candidate("tranship, sync", answered(OURS, 1000, 300), ROUND_TRIP),
        Candidate("original, sync", answered(THEIRS, 100, 30), ROUND_TRIP),
    ],
    [Target("p50 / the original's", p50s, 0.2, 0.1, lower=True)],
)
