"""dramatiq with RedisBroker and its results middleware; one process with its default of 8 threads."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from address import redis_url
from child import ready, until_told
from gauge import Gauge


def make(gauge: Gauge | None = None):
    url = redis_url()
    broker = RedisBroker(url=url)
    broker.add_middleware(Results(backend=RedisBackend(url=url), store_results=True))

    def noop(payload):  # noqa: ARG001 - it only has to travel
        if gauge is not None:
            gauge.tick()
        return 1

    return broker, dramatiq.actor(noop, broker=broker)


def fill(amount: int, argument: int):
    payload, (_, noop) = "x" * argument, make()
    for _ in range(amount):
        noop.send(payload)


def drain(amount: int, warm: int):
    """Tasks per second; says ready when the last handler has run."""
    gauge = Gauge(warm, amount, ready)
    broker, _ = make(gauge)
    worker = dramatiq.Worker(broker)
    worker.start()
    until_told()
    worker.stop()
    return {"rate": gauge.rate}
