"""Celery as it comes, on Redis with JSON; its worker without gossip, mingle and heartbeats, which is kind to it."""

from __future__ import annotations

import collections
import os
import threading
import time

from celery import Celery, signals
from celery.worker import state

from address import redis_url
from child import ready, until_told
from gauge import Gauge
from harness import percentile

NOOP = "bench.noop"
WARM = 100


def make(*, results: bool) -> Celery:
    url = redis_url()
    app = Celery("bench", broker=url, backend=url if results else None)
    app.conf.worker_hijack_root_logger = False
    app.conf.worker_redirect_stdouts = False  # our parent reads them
    return app


def submit(amount: int, argument: int, *, results: bool):
    """``send_task`` with a reused producer, per second."""
    app, args = make(results=results), ["x" * argument]
    with app.producer_or_acquire() as producer:
        for _ in range(WARM):
            app.send_task(NOOP, args=args, producer=producer)
        begun = time.perf_counter()
        for _ in range(amount):
            app.send_task(NOOP, args=args, producer=producer)
        took = time.perf_counter() - begun
    return {"rate": amount / took, "wanted": WARM + amount}


def fill(amount: int, argument: int):
    app, args = make(results=False), ["x" * argument]
    with app.producer_or_acquire() as producer:
        for _ in range(amount):
            app.send_task(NOOP, args=args, producer=producer)


def drain(amount: int, warm: int, pool: str, concurrency: int):
    """Tasks per second of a worker in this process; says ready when the last handler has run."""
    gauge = Gauge(warm, amount, ready)

    def noop(payload):  # noqa: ARG001 - it only has to travel
        gauge.tick()
        return 1

    work(noop, pool, concurrency)
    return {"rate": gauge.rate}


def serve(pool: str, concurrency: int):
    """A worker until told to stop."""

    def noop(payload):  # noqa: ARG001
        return 1

    signals.worker_ready.connect(lambda **_: ready(), weak=False)
    work(noop, pool, concurrency)


def work(function, pool: str, concurrency: int) -> None:
    app = make(results=True)
    app.task(function, name=NOOP)
    threading.Thread(target=stop_when_told, daemon=True).start()
    worker = app.Worker(
        pool=pool,
        concurrency=concurrency,
        loglevel="ERROR",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()


def stop_when_told() -> None:
    until_told()
    state.should_stop = os.EX_OK


def roundtrip(amount: int, warm: int, argument: int):
    """Submit and wait for the result, one after the other."""
    app, args, seconds = make(results=True), ["x" * argument], []
    with app.producer_or_acquire() as producer:
        for number in range(warm + amount):
            begun = time.perf_counter()
            assert app.send_task(NOOP, args=args, producer=producer).get(timeout=30) == 1
            if number >= warm:
                seconds.append(time.perf_counter() - begun)
    return {"p50": percentile(seconds, 0.5) * 1e3, "p99": percentile(seconds, 0.99) * 1e3}


def in_flight(amount: int, callers: int, warm: int, argument: int):
    """Round trips per second with ``callers`` under way: the oldest is waited for, then another is sent."""
    app, args, sent = make(results=True), ["x" * argument], collections.deque()
    with app.producer_or_acquire() as producer:

        def trips(count: int) -> None:
            for _ in range(count):
                assert sent.popleft().get(timeout=30) == 1
                sent.append(app.send_task(NOOP, args=args, producer=producer))

        sent.extend(app.send_task(NOOP, args=args, producer=producer) for _ in range(callers))
        trips(warm)
        begun = time.perf_counter()
        trips(amount)
        took = time.perf_counter() - begun
        for one in sent:
            one.get(timeout=30)
    return {"rate": amount / took, "wanted": callers + warm + amount}
