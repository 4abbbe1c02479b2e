"""Where a step goes that a Celery client has described, and at which level."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from tranship import Client, Middleware, Settings, Worker, current, task
from tranship.client._planner import plan
from tranship.envelope import Envelope, Priority
from tranship.errors import MalformedMessage
from tranship.protocol import CARRIED, Routing, called
from tranship.settings import TaskRoutes
from tranship.task import named
from tranship.testing.background import BackgroundWorker

REDIS = [Priority.HIGH] * 3 + [Priority.NORMAL] * 3 + [Priority.LOW] * 3 + [Priority.VERY_LOW]
ROUTES = TaskRoutes.parse("shop.*=shop")
BEFORE = Envelope(id="1", task="first", args=(), kwargs={}, queue="celery", priority=Priority.LOW)


def step(routing: Routing, **options: Any) -> Envelope:
    return called("shop.pack", (), {}, options, task_id="2", after=BEFORE, now=1.0, routing=routing)


@pytest.mark.parametrize(
    ("number", "level"),
    [(0, Priority.HIGH), (5, Priority.NORMAL), (9, Priority.VERY_LOW), (99, Priority.VERY_LOW), (-1, Priority.HIGH)],
)
def test_its_own_priority_is_the_brokers(number: int, level: Priority) -> None:
    assert step(Routing(numbers=REDIS), priority=number).priority is level


@pytest.mark.parametrize("options", [{}, {"priority": None}])
def test_without_one_it_is_as_urgent_as_what_it_follows(options: dict[str, Any]) -> None:
    assert step(Routing(numbers=REDIS), **options).priority is Priority.LOW


def test_a_number_that_means_nothing_here() -> None:
    assert step(Routing(), priority=0).priority is Priority.LOW


@pytest.mark.parametrize("value", ["high", True, 1.5, [1]])
def test_a_priority_that_is_none(value: Any) -> None:
    with pytest.raises(MalformedMessage, match=r"signature of 'shop.pack', option 'priority' is .*; expected a whole"):
        step(Routing(numbers=REDIS), priority=value)


def test_the_queue_of_its_own_then_the_settings_then_what_it_follows() -> None:
    routing = Routing(queue_of=ROUTES.queue_of)
    assert step(routing, queue="own").queue == "own"
    assert step(routing, routing_key="key").queue == "key"
    assert step(routing).queue == "shop"
    assert step(Routing()).queue == "celery"


def test_celery_workers_are_told_the_number_of_a_later_step() -> None:
    first, later, usual = (named(f"shop.{name}") for name in ("first", "later", "usual"))
    workflow = first.options(priority="high").call().then(later.options(priority="low").step()).then(usual.step())
    found = plan(workflow, now=1.0, reply_to=None, parent=None, numbers=REDIS)
    chain = found.envelopes[0].headers[CARRIED]["embed"]["chain"]
    assert [one["options"]["priority"] for one in chain] == [3, 6]
    plain = plan(first.call().then(later.step()), now=1.0, reply_to=None, parent=None, numbers=REDIS)
    assert "priority" not in plain.envelopes[0].headers[CARRIED]["embed"]["chain"][0]["options"]


class Followed(Middleware):
    """Has a Celery client's step after each task, which names no queue."""

    async def submit(self, envelope, call_next):
        chain = [{"task": "shop.pack", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}]
        return await call_next(replace(envelope, headers={**envelope.headers, CARRIED: {"embed": {"chain": chain}}}))


def test_a_worker_sends_it_where_its_settings_say() -> None:
    came: list[str] = []
    ended = threading.Event()

    @task(name="shop.first")
    async def first() -> int:
        return 1

    @task(name="shop.pack", queue="shop")
    async def pack(_before: int) -> None:
        came.append(current().envelope.queue)
        ended.set()

    settings = Settings.load({}, broker_url="memory://test-steps-received", task_routes="shop.*=shop")
    with (
        BackgroundWorker(Worker(settings=settings, tasks=[first])),
        BackgroundWorker(Worker(settings=settings, tasks=[pack])),
        Client(settings=settings, middleware=[Followed()]) as client,
    ):
        client.submit(first.options(queue="default").call())
        assert ended.wait(10)
    assert came == ["shop"]
