"""Handing tasks over to Redis: in bulk, from many callers, one after the other, from threads."""

from __future__ import annotations

from functools import cache

import bound_redis
from harness import PRODUCER, Bench, Candidate, Metrics, Row, Target, expect
from rows_submit import over
from server import WORKER, Server, redis_server

NO_GOAL = float("inf")
CALLERS = 100
THREADS = 64

RATE = (("rate", "/s"), ("bytes", "B"))
LATENCY = (("rate", "/s"), ("p50", "ms p50"), ("p99", "ms p99"))


def submitting(target: str, full: int, quick: int, **arguments: object):
    """Run ``target`` against a new server and count there what it has queued."""

    def measure(bench: Bench) -> Metrics:
        amount = bench.amount(full, quick)
        with redis_server(bench) as server:
            found = bench.run(target, server.where, amount=amount, argument=bench.argument, **arguments)
            landed(target, server, found)
        return found

    return measure


def landed(target: str, server: Server, found: Metrics) -> None:
    expect(f"{target}: elements in the server's lists", server.queued(), found.pop("wanted"))
    found["bytes"] = len(server.element())


# In bulk.

MANY = "Client.submit_many, no results"
MANY_ASYNC = "AsyncClient.submit_many, no results"
CELERY = "celery send_task, no result backend"
MANY_RESULTS = "Client.submit_many, results"
MANY_RESULTS_ASYNC = "AsyncClient.submit_many, results"
EXPECTED = "AsyncClient.submit_many, results subscribed to"
CELERY_RESULTS = "celery send_task, result backend"


def many(function: str, *, results: bool):
    return submitting(f"ours_submit:{function}", 10_000, 10_000, repeats=3, results=results)


def celery(*, results: bool):
    return submitting("peer_celery:submit", 5000, 1000, results=results)


def many_expected(bench: Bench) -> Metrics:
    amount = 10_000
    with (
        redis_server(bench) as server,
        bench.child(
            "ours_redis:many_expected", server.where, on=PRODUCER, amount=amount, argument=bench.argument
        ) as us,
    ):
        us.wait_ready()
        every = amount + 200
        expect("channels subscribed to", server.info("stats", "pubsub_channels"), every)
        found = {"wanted": every}
        landed("ours_redis:many_expected", server, found)
        bench.run("ours_work:drain", server.where, on=WORKER, amount=every, warm=0, limit=100)
        found.update(us.result())
        expect("successful results", server.succeeded(), every)
    return found


SUBMIT_MANY = Row(
    "submit",
    "`submit_many` of 10,000",
    [
        Candidate(MANY, many("many", results=False), RATE),
        Candidate(MANY_ASYNC, many("many_async", results=False), RATE),
        Candidate(CELERY, celery(results=False), RATE),
        Candidate(MANY_RESULTS, many("many", results=True), RATE),
        Candidate(MANY_RESULTS_ASYNC, many("many_async", results=True), RATE),
        Candidate(EXPECTED, many_expected, RATE),
        Candidate(CELERY_RESULTS, celery(results=True), RATE),
    ],
    [
        Target("Client.submit_many / celery, no results", over(MANY, CELERY), 40, 80),
        Target("AsyncClient.submit_many / celery, no results", over(MANY_ASYNC, CELERY), 40, 80),
        Target("Client.submit_many / celery, results", over(MANY_RESULTS, CELERY_RESULTS), 20, 40),
        Target("AsyncClient.submit_many / celery, results", over(MANY_RESULTS_ASYNC, CELERY_RESULTS), 20, 40),
        Target("the same until subscribed to / celery, results", over(EXPECTED, CELERY_RESULTS), 20, 40),
    ],
    [
        (
            "One call with 10,000 tasks, three times, median; building the calls and the handles is counted. celery sends "
            "5,000, one after the other, `send_task` with one producer for all. With a result backend it subscribes to "
            "each result as it sends the task; tranship does when somebody waits. The candidate *subscribed to* counts "
            "that, too: until all 10,000 are subscribed to and have been read once."
        ),
        "B: the length of one list element. Every candidate gets the same argument and has its own encoding.",
    ],
)


# From many callers.

CONCURRENT = "AsyncClient.submit, 100 callers"
UNHEARD = "AsyncClient.submit, 100 callers, no results"
FASTSTREAM = "FastStream publish to a list, 100 callers"
TASKIQ = "taskiq kiq, 100 callers"


def concurrent(target: str, **arguments: object):
    return submitting(target, 10_000, 3000, callers=CALLERS, **arguments)


CONCURRENT_SUBMITS = Row(
    "concurrent",
    "100 concurrent submits",
    [
        Candidate(CONCURRENT, concurrent("ours_submit:concurrent"), RATE),
        Candidate(UNHEARD, concurrent("ours_submit:concurrent", results=False), RATE),
        Candidate(FASTSTREAM, concurrent("peer_faststream:concurrent"), RATE),
        Candidate(TASKIQ, concurrent("peer_taskiq:concurrent"), RATE),
    ],
    [
        Target("100 callers / FastStream", over(CONCURRENT, FASTSTREAM), 2.5, 5),
        Target("100 callers / taskiq", over(CONCURRENT, TASKIQ), 7, NO_GOAL),
    ],
    [
        (
            "Each caller submits one after the other. tranship's first candidate subscribes to each result with the "
            "submit; the others' submits know nothing of results."
        ),
    ],
)


# Blocking.

SERIAL = "Client.submit"
SERIAL_ASYNC = "AsyncClient.submit"
LPUSH = "redis-py LPUSH"
IN_THREADS = "Client.submit, 64 threads"
LPUSH_THREADS = "redis-py LPUSH, 64 threads"


@cache
def element(bench: Bench) -> bytes:
    """The list element that tranship makes of one task."""
    with redis_server(bench) as server:
        bench.run("ours_redis:sample", server.where, argument=bench.argument)
        expect("sample: elements in the server's lists", server.queued(), 1)
        return server.element()


def lpush(target: str, full: int, quick: int, **arguments: object):
    def measure(bench: Bench) -> Metrics:
        value = element(bench)
        with redis_server(bench) as server:
            (server.where / bound_redis.ELEMENT).write_bytes(value)
            found = bench.run(target, server.where, amount=bench.amount(full, quick), **arguments)
            landed(target, server, found)
        return found

    return measure


def by_p50(ours: str, peer: str):
    """The ratio of rates that the middle ones would give."""
    return lambda figures: figures[peer]["p50"] / figures[ours]["p50"]


SERIAL_SUBMITS = Row(
    "serial",
    "serial submit",
    [
        Candidate(SERIAL, submitting("ours_submit:serial", 5000, 1500), LATENCY),
        Candidate(SERIAL_ASYNC, submitting("ours_submit:serial_async", 5000, 1500), LATENCY),
        Candidate(LPUSH, lpush("bound_redis:serial", 5000, 1500), LATENCY),
    ],
    [
        Target("Client.submit / redis-py LPUSH", over(SERIAL, LPUSH), 0.6, 0.8),
        Target("the same by p50, which a busy machine harms less", by_p50(SERIAL, LPUSH), 0.6, 0.8),
        Target("AsyncClient.submit / redis-py LPUSH (no target of its own)", over(SERIAL_ASYNC, LPUSH), 0.6, 0.8),
    ],
    [
        "LPUSH sends the very bytes of tranship's list element, ready beforehand; tranship subscribes to the result, too."
    ],
)

THREADED_SUBMITS = Row(
    "threads",
    "submit from 64 threads",
    [
        Candidate(IN_THREADS, submitting("ours_redis:threads", 19_200, 6400, threads=THREADS)),
        Candidate(LPUSH_THREADS, lpush("bound_redis:threads", 19_200, 6400, threads=THREADS)),
    ],
    [Target("Client.submit / redis-py LPUSH, 64 threads", over(IN_THREADS, LPUSH_THREADS), 1.2, 2)],
    ["One client object for all threads on either side; redis-py's pool has a connection for each."],
)
