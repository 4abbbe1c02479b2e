"""Draining a full queue on Redis, results stored: one process of each."""

from __future__ import annotations

from collections.abc import Callable

from harness import PRODUCER, Bench, Candidate, Metrics, Row, Target, expect
from rows_redis_submit import NO_GOAL
from rows_submit import over
from server import Server, redis_server

CELERY_SOLO = {"pool": "solo", "concurrency": 1}
CELERY_THREADS = {"pool": "threads", "concurrency": 10}

WARM = 100
CELERY = "celery, -P solo"
DRAIN = "async def, 10 at once (default)"
DRAIN_100 = "async def, 100 at once"
DRAIN_DEF = "def, 10 at once (default)"
DRAIN_DEF_100 = "def, 100 at once"
CELERY_THREADED = "celery, -P threads -c 10"
TASKIQ = "taskiq list, 100 at once"
SAQ = "SAQ, 100 at once"
DRAMATIQ = "dramatiq, 8 threads"


def nothing_left(server: Server, tasks: int) -> None:
    """Every task answered once with success, nothing queued, claimed, delayed or dead."""
    server.until("successful results", server.succeeded, tasks)
    ours = [b"unacked", b"unacked_index", b"tranship:leases", b"tranship:deliveries", b"tranship:rows:d"]
    server.until("tasks that are held", lambda: server.client.exists(*ours), 0)
    expect("elements in the server's lists", server.lists(), {})


def ours(task: str, limit: int | None):
    def measure(bench: Bench) -> Metrics:
        amount = bench.amount(10_000, 3000)
        every = amount + WARM
        with redis_server(bench) as server:
            bench.run("ours_work:fill", server.where, on=PRODUCER, task=task, amount=every, argument=bench.argument)
            expect("tasks queued", server.queued(), every)
            found = bench.run("ours_work:drain", server.where, on=PRODUCER, amount=amount, warm=WARM, limit=limit)
            expect("deliveries settled", found.pop("done"), every)
            nothing_left(server, every)
        return found

    return measure


def peer(
    module: str,
    queued: Callable[[Server], int],
    finished: Callable[[Server, int], None],
    full: int,
    quick: int,
    **arguments: object,
):
    """``queued`` counts what waits on the server, ``finished`` waits there until all is done and every result stored."""

    def measure(bench: Bench) -> Metrics:
        amount = bench.amount(full, quick)
        every = amount + WARM
        with redis_server(bench) as server:
            bench.run(f"{module}:fill", server.where, on=PRODUCER, amount=every, argument=bench.argument)
            expect(f"{module}: messages queued", queued(server), every)
            with bench.child(
                f"{module}:drain", server.where, on=PRODUCER, amount=amount, warm=WARM, **arguments
            ) as worker:
                worker.wait_ready(120)
                finished(server, every)
                found = worker.finish()
        return found

    return measure


def celery(full: int, quick: int, **arguments: object):
    return peer("peer_celery", Server.queued, celery_finished, full, quick, **arguments)


def celery_finished(server: Server, tasks: int) -> None:
    server.until("celery: successful results", server.succeeded, tasks)
    server.until("celery: tasks unacknowledged", lambda: server.client.hlen("unacked"), 0)


def taskiq_finished(server: Server, tasks: int) -> None:
    server.until("taskiq: results", lambda: server.client.dbsize() - len(server.lists()), tasks)
    expect("taskiq: messages left", server.queued(), 0)


def saq_finished(server: Server, tasks: int) -> None:
    def complete() -> int:
        return sum(b'"status": "complete"' in job for job in server.values("saq:job:default:*"))

    server.until("SAQ: jobs complete", complete, tasks)
    expect("SAQ: jobs left", server.queued(), 0)


def dramatiq_queued(server: Server) -> int:
    return server.client.llen("dramatiq:default")


def dramatiq_finished(server: Server, tasks: int) -> None:
    def results() -> int:
        # Each is a list of one, its name a hash.
        return sum(not name.startswith("dramatiq") for name in server.lists())

    server.until("dramatiq: results", results, tasks)
    server.until("dramatiq: messages left", lambda: server.client.hlen("dramatiq:default.msgs"), 0)


def drain_targets(name: str):
    yield Target(f"{name} / the better celery", over(name, CELERY, CELERY_THREADED), 10, 20)
    yield Target(f"{name} / the best of the others", over(name, TASKIQ, SAQ, DRAMATIQ), 4, NO_GOAL)


DRAINING = Row(
    "drain",
    "drain of 10,000 with results, one process",
    [
        Candidate(DRAIN, ours("noop", None)),
        Candidate(DRAIN_100, ours("noop", 100)),
        Candidate(DRAIN_DEF, ours("noop_def", None)),
        Candidate(DRAIN_DEF_100, ours("noop_def", 100)),
        Candidate(CELERY, celery(4000, 800, **CELERY_SOLO)),
        Candidate(CELERY_THREADED, celery(4000, 800, **CELERY_THREADS)),
        Candidate(TASKIQ, peer("peer_taskiq", Server.queued, taskiq_finished, 10_000, 1500)),
        Candidate(SAQ, peer("peer_saq", Server.queued, saq_finished, 10_000, 1500)),
        Candidate(DRAMATIQ, peer("peer_dramatiq", dramatiq_queued, dramatiq_finished, 10_000, 1500)),
    ],
    [target for name in (DRAIN, DRAIN_100, DRAIN_DEF, DRAIN_DEF_100) for target in drain_targets(name)],
    [
        (
            "The queue is filled before the worker starts; counted is from the 100th task on. celery has 4,000 tasks, "
            "all others 10,000. Every result is found on the server afterwards, and nothing else."
        ),
    ],
)
