"""Redis with a worker at the other end: round trips, waking, waiting."""

from __future__ import annotations

import time

import bound_redis
from harness import PRODUCER, Bench, Candidate, Metrics, Round, Row, Target, expect
from rows_redis_drain import CELERY, CELERY_SOLO, nothing_left
from rows_redis_submit import NO_GOAL, element
from rows_submit import over
from rows_work import EVERY, ROUND_TRIP, WOKEN, milliseconds, processor_time, times
from server import WORKER, Server, redis_server

# Round trips.

ECHO = "bare list echo"
ASYNC = "AsyncClient"
BLOCKING = "Client"


def roundtrip(function: str, worker: str, client: str, **arguments: object):
    def measure(bench: Bench) -> Metrics:
        amount, warm = bench.amount(1000, 300), 100
        with (
            redis_server(bench) as server,
            bench.child(worker, server.where, on=WORKER, **arguments) as serving,
        ):
            serving.wait_ready()
            found = bench.run(
                f"{client}:{function}",
                server.where,
                on=PRODUCER,
                amount=amount,
                warm=warm,
                argument=bench.argument,
            )
            serving.finish()
            nothing_left(server, amount + warm)
        return found

    return measure


def between(serve: str, measure_there: str, full: int, quick: int, **arguments: object):
    """Two bare processes: one answers what the other sends."""

    def measure(bench: Bench) -> Metrics:
        value = element(bench)
        with redis_server(bench) as server:
            (server.where / bound_redis.ELEMENT).write_bytes(value)
            with bench.child(serve, server.where, on=WORKER) as serving:
                serving.wait_ready()
                amount = bench.amount(full, quick)
                found = bench.run(measure_there, server.where, on=PRODUCER, amount=amount, warm=100, **arguments)
                expect(f"{serve}: messages answered", serving.result()["done"], found.pop("wanted"))
            expect("elements in the server's lists", server.lists(), {})
        return found

    return measure


def trip_targets(name: str):
    yield Target(f"{name} p50 / celery", times(name, CELERY), 0.5, 0.3, lower=True)
    yield Target(f"{name} p50 / bare list echo", times(name, ECHO), NO_GOAL, 2, lower=True)


ROUND_TRIPS = Row(
    "round-trip",
    "serial round trip of a no-op between two processes",
    [
        Candidate(ECHO, between("bound_redis:echo_server", "bound_redis:echo", 2000, 500), ROUND_TRIP),
        Candidate(ASYNC, roundtrip("roundtrip_async", "ours_work:serve", "ours_work"), ROUND_TRIP),
        Candidate(BLOCKING, roundtrip("roundtrip", "ours_work:serve", "ours_work"), ROUND_TRIP),
        Candidate(CELERY, roundtrip("roundtrip", "peer_celery:serve", "peer_celery", **CELERY_SOLO), ROUND_TRIP),
    ],
    [target for name in (ASYNC, BLOCKING) for target in trip_targets(name)],
    [
        (
            "Submit, run in the other process, result back. The echo is LPUSH and BRPOP both ways with redis-py, "
            "blocking, the bytes those of tranship's list element. celery's client is blocking for both."
        ),
    ],
)


# Many round trips at once.

FLIGHT = "AsyncClient, 100 callers, worker of 10 (default)"
FLIGHT_100 = "AsyncClient, 100 callers, worker of 100"
FLIGHT_THREADS = "Client, 100 threads, worker of 10"
CALLERS = 100


def in_flight(target: str, worker: str, full: int, quick: int, *, warm: int = 0, **arguments: object):
    def measure(bench: Bench) -> Metrics:
        amount = bench.amount(full, quick)
        more = {"warm": warm} if warm else {}
        with (
            redis_server(bench) as server,
            bench.child(worker, server.where, on=WORKER, **arguments) as serving,
        ):
            serving.wait_ready()
            found = bench.run(
                target, server.where, on=PRODUCER, amount=amount, callers=CALLERS, argument=bench.argument, **more
            )
            serving.finish()
            nothing_left(server, int(found.pop("wanted")))
        return found

    return measure


MANY_TRIPS = Row(
    "in-flight",
    "round trips, 100 in flight",
    [
        Candidate(FLIGHT, in_flight("ours_redis:in_flight", "ours_work:serve", 10_000, 3000, warm=500)),
        Candidate(FLIGHT_100, in_flight("ours_redis:in_flight", "ours_work:serve", 10_000, 3000, warm=500, limit=100)),
        Candidate(FLIGHT_THREADS, in_flight("ours_redis:in_flight_threads", "ours_work:serve", 6400, 1600)),
        Candidate(
            CELERY,
            in_flight("peer_celery:in_flight", "peer_celery:serve", 2000, 600, warm=100, **CELERY_SOLO),
        ),
    ],
    [Target(f"{name} / celery", over(name, CELERY), 10, 20) for name in (FLIGHT, FLIGHT_100)],
    ["celery's client keeps 100 tasks out: it waits for the oldest, then sends another."],
)


# Waking.

WAKE = "idle worker woken"
BARE = "bare BRPOP woken"
IDLE = "idle worker"


def wake(bench: Bench) -> Metrics:
    amount, warm = bench.amount(300, 100), 20
    with (
        redis_server(bench) as server,
        bench.child("ours_work:serve", server.where, on=WORKER) as worker,
    ):
        worker.wait_ready()
        found = bench.run(
            "ours_work:wake",
            server.where,
            on=PRODUCER,
            amount=amount,
            warm=warm,
            argument=bench.argument,
            every=EVERY,
        )
        expect("tasks that the worker did", worker.finish()["done"], found.pop("wanted"))
        nothing_left(server, amount + warm)
    return found


def idle(bench: Bench) -> Metrics:
    # An idle worker does in a round what it does, every five seconds: another time would hold one more or not.
    seconds = bench.amount(10, 5)
    with (
        redis_server(bench) as server,
        bench.child("ours_work:serve", server.where, on=WORKER) as worker,
    ):
        worker.wait_ready()
        time.sleep(1)  # start-up is not what is asked for
        before, begun = (processor_time(worker.pid), commands(server)), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - begun
        used, asked = processor_time(worker.pid) - before[0], commands(server) - before[1] - 1
        worker.finish()
    return {"percent": 100 * used / passed, "commands": asked / passed}


def commands(server: Server) -> float:
    return server.info("stats", "total_commands_processed")


WAKING = Row(
    "wake",
    "waking an idle worker",
    [
        Candidate(BARE, between("bound_redis:woken_server", "bound_redis:woken", 300, 100, every=EVERY), ROUND_TRIP),
        Candidate(WAKE, wake, WOKEN),
        Candidate(IDLE, idle, (("percent", "% CPU"), ("commands", "commands/s"))),
    ],
    [
        Target(
            "start of submit to first line of the handler, p50", milliseconds(WAKE), 1.0, 0.4, lower=True, unit="ms"
        ),
        Target("the same, p99 (no target of its own)", milliseconds(WAKE, "p99"), NO_GOAL, 1.0, lower=True, unit="ms"),
    ],
    ["Submits 15 ms apart from another process, on the host's clock; the worker is idle each time."],
)


# Waiting handles.

COLLECT = "collect of 10,000"
EACH = "10,000 tasks, each in its result()"
RESIDENT = ", resident memory"
HANDLES = (("bytes", "B each"), ("connections", "connections"))


def handles(how: str, gauge: str):
    def measure(bench: Bench) -> Metrics:
        amount, every = 10_000, 10_000 + 200
        arguments = {"amount": amount, "argument": bench.argument, "how": how, "gauge": gauge}
        with (
            redis_server(bench) as server,
            bench.child("ours_redis:handles", server.where, on=PRODUCER, **arguments) as client,
        ):
            client.wait_ready(60)
            connections = len(server.others())
            expect("channels subscribed to", server.info("stats", "pubsub_channels"), every)
            bench.run("ours_work:drain", server.where, on=WORKER, amount=every, warm=0, limit=100)
            found = client.result()
            nothing_left(server, every)
        return {**found, "connections": connections}

    return measure


def most_connections(figures: Round) -> float:
    return max(figures[name]["connections"] for name in (COLLECT, EACH))


def kilobytes(name: str):
    return lambda figures: figures[name]["bytes"] / 1000


WAITING = Row(
    "handles",
    "10,000 waiting handles",
    [
        Candidate(COLLECT, handles("collect", "traced"), HANDLES),
        Candidate(EACH, handles("each", "traced"), HANDLES),
        Candidate(COLLECT + RESIDENT, handles("collect", "resident"), HANDLES),
        Candidate(EACH + RESIDENT, handles("each", "resident"), HANDLES),
    ],
    [
        Target("connections", most_connections, 1, 1, lower=True, unit=""),
        Target(f"{COLLECT}: kB each", kilobytes(COLLECT), NO_GOAL, 1.5, lower=True, unit="kB"),
        Target(f"{EACH}: kB each", kilobytes(EACH), NO_GOAL, 1.5, lower=True, unit="kB"),
    ],
    [
        (
            "Memory of the client process from before the submits (in batches of 500) to when all are waited for: what "
            "Python has handed out (tracemalloc, the targets' figures), and resident memory in a process of its own. "
            "Connections are the server's CLIENT LIST at that moment; then a worker does the tasks, and all results come."
        ),
    ],
)
