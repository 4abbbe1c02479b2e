"""RabbitMQ and NATS: handing over in bulk, many round trips at once, waking an idle worker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from brokers import WORKER, Running, nats, rabbitmq
from harness import PRODUCER, Bench, Candidate, Metrics, Row, Target
from rows_redis_submit import NO_GOAL
from rows_submit import over
from rows_work import EVERY, WOKEN, milliseconds

Server = Callable[[Bench], AbstractContextManager[Running]]

CALLERS = 100
MANY, MANY_ASYNC = "Client.submit_many", "AsyncClient.submit_many"
AIO_PIKA, NATS_PY = "raw aio-pika, 256 confirms outstanding", "raw nats-py JetStream publishes, 256 outstanding"
CELERY = "celery send_task, no confirms"
TASKIQ = "taskiq kiq, 100 callers"
OURS, PEER = "AsyncClient, 100 callers", "taskiq, 100 callers, looks every 10 ms"
WAKE = "idle worker woken"
# What tranship sends for one task: that many headers; the body is Celery's around the argument.
BODY, HEADERS = 90, 20


def submitting(server: Server, target: str, full: int, quick: int, **arguments: object):
    def measure(bench: Bench) -> Metrics:
        with server(bench) as running:
            found = bench.run(target, running.where, amount=bench.amount(full, quick), **arguments)
            running.expect(target, found.pop("wanted"))
        return found

    return measure


def ours(server: Server, function: str):
    def measure(bench: Bench) -> Metrics:
        many = submitting(
            server, f"ours_submit:{function}", 10_000, 2000, repeats=3, argument=bench.argument, results=False
        )
        return many(bench)

    return measure


def bound(server: Server, function: str):
    def measure(bench: Bench) -> Metrics:
        body = bench.argument + BODY
        return submitting(server, f"bound_brokers:{function}", 10_000, 2000, repeats=3, body=body, headers=HEADERS)(
            bench
        )

    return measure


def peer(server: Server, target: str, full: int, quick: int, **arguments: object):
    return lambda bench: submitting(server, target, full, quick, argument=bench.argument, **arguments)(bench)


def in_flight(server: Server, worker: str, client: str, full: int, quick: int):
    def measure(bench: Bench) -> Metrics:
        with server(bench) as running, bench.child(worker, running.where, on=WORKER) as serving:
            serving.wait_ready()
            amount = bench.amount(full, quick)
            found = bench.run(
                client, running.where, on=PRODUCER, amount=amount, callers=CALLERS, warm=200, argument=bench.argument
            )
            serving.finish()
        found.pop("wanted", None)
        return found

    return measure


def wake(server: Server):
    def measure(bench: Bench) -> Metrics:
        with server(bench) as running, bench.child("ours_work:serve", running.where, on=WORKER) as worker:
            worker.wait_ready()
            found = bench.run(
                "ours_work:wake",
                running.where,
                on=PRODUCER,
                amount=bench.amount(300, 100),
                warm=20,
                argument=bench.argument,
                every=EVERY,
            )
            found.pop("wanted")
            worker.finish()
        return found

    return measure


def in_flight_row(server: Server, peers: Server) -> Row:
    return Row(
        "in-flight",
        "round trips, 100 in flight",
        [
            Candidate(OURS, in_flight(server, "ours_work:serve", "ours_redis:in_flight", 6000, 1000)),
            Candidate(PEER, in_flight(peers, "peer_taskiq_brokers:serve", "peer_taskiq_brokers:in_flight", 3000, 600)),
        ],
        [Target(f"{OURS} / {PEER}", over(OURS, PEER), 3, NO_GOAL)],
    )


def wake_row(server: Server, floor: float) -> Row:
    return Row(
        "wake",
        "waking an idle worker",
        [Candidate(WAKE, wake(server), WOKEN)],
        [
            Target(
                "start of submit to first line of the handler, p50",
                milliseconds(WAKE),
                floor,
                NO_GOAL,
                lower=True,
                unit="ms",
            )
        ],
        ["Submits 15 ms apart from another process, on the host's clock; the worker is idle each time."],
    )


ON_RABBITMQ = [
    Row(
        "submit",
        "`submit_many` of 10,000",
        [
            Candidate(MANY, ours(rabbitmq, "many")),
            Candidate(MANY_ASYNC, ours(rabbitmq, "many_async")),
            Candidate(AIO_PIKA, bound(rabbitmq, "aio_pika_many")),
            Candidate(CELERY, peer(rabbitmq, "peer_celery:submit", 5000, 1000, results=False)),
        ],
        [
            *(Target(f"{name} / {AIO_PIKA}", over(name, AIO_PIKA), 0.8, NO_GOAL) for name in (MANY, MANY_ASYNC)),
            *(Target(f"{name} / {CELERY}", over(name, CELERY), 1, NO_GOAL) for name in (MANY, MANY_ASYNC)),
        ],
        ["aio-pika's messages are persistent and mandatory, with 20 short headers; tranship's are Celery's."],
    ),
    in_flight_row(rabbitmq, lambda bench: rabbitmq(bench, results=True)),
    wake_row(rabbitmq, 5),
]
ON_NATS = [
    Row(
        "submit",
        "`submit_many` of 10,000",
        [
            Candidate(MANY, ours(nats, "many")),
            Candidate(MANY_ASYNC, ours(nats, "many_async")),
            Candidate(NATS_PY, bound(nats, "nats_many")),
            Candidate(TASKIQ, peer(nats, "peer_taskiq_brokers:concurrent", 5000, 1000, callers=CALLERS)),
        ],
        [
            *(Target(f"{name} / {NATS_PY}", over(name, NATS_PY), 0.6, NO_GOAL) for name in (MANY, MANY_ASYNC)),
            *(Target(f"{name} / {TASKIQ}", over(name, TASKIQ), 1, NO_GOAL) for name in (MANY, MANY_ASYNC)),
        ],
    ),
    in_flight_row(nats, nats),
    wake_row(nats, 2),
]
