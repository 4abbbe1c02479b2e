"""Workflows that run, where no broker matters: middleware, tasks that submit them, task routes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tranship import Client, Middleware, Worker, current, gather, task
from tranship.client._planner import plan
from tranship.errors import ResultTimeout
from tranship.settings import TaskRoutes
from tranship.testing.background import BackgroundWorker
from tranship.worker import _canvas

URL = "memory://test-workflow-runs"


@task
async def add(left: int, right: int) -> int:
    return left + right


@task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
async def where(_before: object = None) -> list[object]:
    envelope = current().envelope
    return [envelope.parent_id, envelope.root_id, envelope.deadline]


@task
def begin() -> list[str]:
    with Client(URL) as client:
        handle = client.submit(where.call().then(where.step()))
        return [child.id for child in handle.children]


@task
async def thread() -> int:
    return threading.get_ident()


class Notes(Middleware):
    def __init__(self) -> None:
        self.sent: list[object] = []

    async def submit(self, envelope, call_next):
        self.sent.append(envelope.args)
        return await call_next(replace(envelope, args=(*envelope.args[:-1], envelope.args[-1] + 10)))

    async def result(self, result, call_next):
        return await call_next(replace(result, value=[result.value]))


@pytest.fixture(autouse=True)
def worker() -> Iterator[Worker]:
    with BackgroundWorker(Worker(URL, tasks=[add, total, where, begin, thread])) as running:
        yield running.worker


def test_what_is_sent_and_what_comes_back_passes_through_middleware():
    notes = Notes()
    with Client(URL, middleware=[notes]) as client:
        handle = client.submit(gather([add.call(1, 1), add.call(2, 2).then(add, 0)]))
        assert handle.result(5) == [[12], [14]]
        assert notes.sent == [(1, 1), (2, 2)]
        assert [one.value for one in handle.info().steps] == [[12], [14], [14]]
        assert client.submit(gather([add.call(1, 1)]).then(total)).result(5) == [12]


def test_one_that_a_task_submits_belongs_to_it():
    with Client(URL) as client:
        until = time.time() + 60
        parent = client.submit(begin.options(deadline=until))
        first, second = (client.handle(one).result(5) for one in parent.result(5))
        assert first == [parent.id, parent.id, until]
        assert second[1:] == [parent.id, until]


def test_waiting_no_longer_than_asked():
    with Client(URL) as client:
        handle = client.submit(add.options(queue="nobody").call(1, 1).then(add, 1))
        begun = time.monotonic()
        for seconds in (0, 0.1):
            with pytest.raises(ResultTimeout):
                handle.result(seconds)
        (one,) = client.collect([handle], 0.1)
        assert isinstance(one.exception(), ResultTimeout)
        assert not list(client.collect([], 0))
        assert time.monotonic() - begun < 5


def test_a_handle_keeps_what_it_has_seen():
    with Client(URL) as client:
        handle = client.submit(add.call(1, 1).then(add, 1))
        assert handle.wait(5).value == 3
        handle.forget()
        assert handle.result(0) == 3
        assert handle == client.handle(handle.id)


def test_what_follows_is_planned_beside_the_loop_where_there_is_much_of_it(monkeypatch):
    planned: list[int] = []
    real = _canvas.after_success

    def noting(*given):
        planned.append(threading.get_ident())
        return real(*given)

    monkeypatch.setattr(_canvas, "after_success", noting)
    with Client(URL) as client:
        for members in (3, 3000):
            planned.clear()
            handle = client.submit(thread.call().then(gather([add.step(0)] * members)))
            assert len(handle.result(60)) == members
            assert (planned[0] == handle.children[0].result(5)) is (members == 3)


def test_names_go_where_the_settings_say():
    routes = TaskRoutes.parse('{"shop.*": "shop"}')
    found = plan(
        add.call(1, 1).then("shop.pack").on_error("shop.alert"), now=1.0, reply_to=None, parent=None, routes=routes
    )
    text = str(found.envelopes[0].headers)
    assert "'task': 'shop.pack'" in text
    assert text.count("'queue': 'shop'") == 3
