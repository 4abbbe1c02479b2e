"""A RabbitMQ or NATS server per measurement, pinned, and how many messages it holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import address
from harness import CONSUMER, Bench, BenchError, cpu
from server import redis_server
from tranship.testing.services import (
    Place,
    ProcessService,
    Recipe,
    ask_nats,
    nats_recipe,
    rabbitmq_recipe,
    rabbitmqctl,
)

WORKER = CONSUMER + 1


@dataclass
class Running:
    """A broker that runs, and the directory in which measured processes find its address."""

    where: Path
    count: Callable[[], int]

    def expect(self, what: str, wanted: float) -> None:
        """Every message is there - or no figure."""
        if (found := self.count()) < wanted:
            raise BenchError(f"{what}: found {found} messages, expected {wanted:g}")


@contextmanager
def rabbitmq(bench: Bench, *, results: bool = False) -> Iterator[Running]:
    """A node, with ``results`` a Redis beside it for peers that keep their results there."""
    with ExitStack() as stack:
        running = stack.enter_context(_server(bench, rabbitmq_recipe(), _queued_in_rabbitmq))
        if results:
            beside = stack.enter_context(redis_server(bench))
            (running.where / address.RESULTS).write_text((beside.where / address.FILE).read_text())
        yield running


@contextmanager
def nats(bench: Bench) -> Iterator[Running]:
    """A server with JetStream on files."""
    with _server(bench, nats_recipe(), _queued_in_nats) as running:
        yield running


@contextmanager
def _server(bench: Bench, recipe: Recipe, count: Callable[[Place], int]) -> Iterator[Running]:
    with bench.place() as where, _pinned(), ProcessService(recipe) as service:
        (where / address.FILE).write_text(service.url)
        yield Running(where, lambda: count(service.place))


@contextmanager
def _pinned() -> Iterator[None]:
    """What is started within stays on the second CPU; so do we, who only wait meanwhile."""
    wanted = cpu(CONSUMER)
    if wanted is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {wanted})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _queued_in_rabbitmq(place: Place) -> int:
    lines = rabbitmqctl(place, "list_queues", "messages", "--no-table-headers").split()
    return max(map(int, lines), default=0)


def _queued_in_nats(place: Place) -> int:
    (account,) = ask_nats(place, "jsz?streams=1")["account_details"]
    return max((stream["state"]["messages"] for stream in account["stream_detail"]), default=0)
