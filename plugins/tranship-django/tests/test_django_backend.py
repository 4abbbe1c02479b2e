"""Tasks of a Django project: enqueued, run by the project's worker, and read, over SQLite."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.test import override_settings
from django.utils import timezone

from tranship import Client, TaskState, Worker, named
from tranship.testing.background import BackgroundWorker
from tranship.testing.services import Service
from tranship_django import TranshipBackend
from tranship_django._interface import (
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)

pytestmark = pytest.mark.usefixtures("project")
MakeWorker = Callable[..., Worker]


@pytest.fixture
def tasks(project: Path) -> Any:
    from shop import tasks

    return tasks


@pytest.fixture
def broker(project: Path) -> Iterator[Client]:
    with Client(f"sqlite:///{project}/tasks.db") as client:
        yield client


def test_a_task_runs_and_its_result_is_read_by_its_id(tasks, make_worker: MakeWorker) -> None:
    before = timezone.now()
    result = tasks.add.enqueue(1, right=2)
    assert (result.status, result.args, result.kwargs) == (TaskResultStatus.READY, [1], {"right": 2})
    assert before <= result.enqueued_at <= timezone.now()
    assert tasks.add.get_result(result.id).status == TaskResultStatus.READY
    make_worker().run_until_idle()
    found = task_backends["default"].get_result(result.id)
    assert (found.task, found.status, found.return_value) == (tasks.add, TaskResultStatus.SUCCESSFUL, 3)
    assert (found.attempts, found.errors, found.backend) == (1, [], "default")
    assert before - timedelta(seconds=1) <= found.enqueued_at <= found.finished_at <= timezone.now()
    result.refresh()
    assert (result.is_finished, result.return_value, result.args) == (True, 3, [1])


def test_a_failure_has_its_class_and_its_traceback(tasks, make_worker: MakeWorker) -> None:
    result, unwritable = tasks.fail.enqueue("no such order"), tasks.unwritable.enqueue()
    make_worker().run_until_idle()
    result.refresh()
    (error,) = result.errors
    assert (result.status, error.exception_class) == (TaskResultStatus.FAILED, ValueError)
    assert "no such order" in error.traceback
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value
    unwritable.refresh()
    assert unwritable.errors[0].exception_class is TypeError


def test_a_cancelled_task_has_failed(tasks, broker: Client, make_worker: MakeWorker) -> None:
    result = tasks.add.enqueue(1, 2)
    broker.cancel(task_id=result.id)
    with BackgroundWorker(make_worker()):
        broker.handle(result.id).wait(timeout=10)
    result.refresh()
    assert (result.status, result.errors[0].exception_class.__name__) == (TaskResultStatus.FAILED, "TaskCancelled")


async def test_an_async_task_with_its_context(tasks, make_worker: MakeWorker) -> None:
    result = await tasks.identify.aenqueue("hello")
    worker = await sync_to_async(make_worker)()
    await worker.serve_until_idle()
    found = await tasks.identify.aget_result(result.id)
    assert found.return_value == [result.id, 1, "hello", True]


def test_a_task_is_tried_again_where_the_options_say_so(tasks, make_worker: MakeWorker) -> None:
    result = tasks.second_time.using(backend="again").enqueue("now")
    make_worker("again").run_until_idle()
    result.refresh()
    assert (result.return_value, result.attempts, result.errors) == (["now", 2], 2, [])


def test_the_same_over_redis(tasks, make_worker: MakeWorker, tranship_service: Callable[[str], Service]) -> None:
    options = {"url": tranship_service("redis").url, "namespace": uuid.uuid4().hex}
    with override_settings(TASKS={"default": {**settings.TASKS["default"], "OPTIONS": options}}):
        good, bad = tasks.identify.enqueue("hello"), tasks.fail.enqueue("no")
        with BackgroundWorker(make_worker()), Client(options["url"], namespace=options["namespace"]) as client:
            for result in (good, bad):
                client.handle(result.id).wait(timeout=20)
        assert tasks.identify.get_result(good.id).return_value == [good.id, 1, "hello", True]
        assert tasks.fail.get_result(bad.id).errors[0].exception_class is ValueError


def test_a_client_without_django_submits_by_name(broker: Client, make_worker: MakeWorker) -> None:
    handle = broker.submit(named("shop.tasks.add"), "a", "b")
    make_worker().run_until_idle()
    assert handle.result(timeout=1) == "ab"


def test_run_after_delays(tasks, broker: Client) -> None:
    result = tasks.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1, 2)
    assert broker.handle(result.id).state() is TaskState.SCHEDULED
    assert tasks.add.get_result(result.id).status == TaskResultStatus.READY
    broker.cancel(task_id=result.id)


def test_tasks_run_in_the_order_of_their_priorities(tasks, make_worker: MakeWorker) -> None:
    from shop.models import Order

    for priority in (-100, -1, 0, 100):
        tasks.order.using(priority=priority).enqueue(f"priority {priority}")
    make_worker().run_until_idle()
    names = Order.objects.filter(name__startswith="priority").order_by("pk").values_list("name", flat=True)
    assert list(names) == ["priority 100", "priority 0", "priority -1", "priority -100"]


def test_what_is_enqueued_in_a_transaction_is_sent_when_it_commits(tasks, broker: Client) -> None:
    with transaction.atomic():
        result = tasks.add.enqueue(1, 2)
        assert result.enqueued_at is None
        with pytest.raises(TaskResultDoesNotExist):
            tasks.add.get_result(result.id)
        at_once = tasks.add.using(backend="at-once").enqueue(1, 2)
        assert broker.handle(at_once.id).state() is TaskState.PENDING
    assert result.enqueued_at is not None
    assert broker.handle(result.id).state() is TaskState.PENDING
    with transaction.atomic():
        lost = tasks.add.enqueue(1, 2)
        transaction.set_rollback(True)
    assert broker.handle(lost.id).state() is TaskState.UNKNOWN


@pytest.mark.parametrize("bad", ["", "nobody", None, 7, f"{'0' * 16}-{'0' * 11}-{'0' * 20}"])
def test_an_id_of_nobody_does_not_exist(tasks, bad: Any) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(bad)


def test_signals_tell_what_happens(tasks, make_worker: MakeWorker) -> None:
    told: list[tuple[str, str, str]] = []

    def hear(name: str) -> Callable[..., None]:
        return lambda task_result, **_: told.append((name, task_result.id, str(task_result.status)))

    receivers = {signal: hear(name) for signal, name in _SIGNALS.items()}
    for signal, receiver in receivers.items():
        signal.connect(receiver)
    try:
        good, bad = tasks.add.enqueue(1, 2), tasks.fail.enqueue("no")
        make_worker().run_until_idle()
    finally:
        for signal, receiver in receivers.items():
            signal.disconnect(receiver)
    for result, end in ((good, "SUCCESSFUL"), (bad, "FAILED")):
        mine = [(name, status) for name, about, status in told if about == result.id]
        assert mine == [("enqueued", "READY"), ("started", "RUNNING"), ("finished", end)]


_SIGNALS = {task_enqueued: "enqueued", task_started: "started", task_finished: "finished"}


def test_no_database_connection_outlives_its_task(tasks, broker: Client, make_worker: MakeWorker) -> None:
    connections.close_all()
    opened: list[Any] = []

    def note(connection: Any, **_: Any) -> None:
        opened.append(connection)

    connection_created.connect(note)
    try:
        results = [tasks.order.enqueue("one"), tasks.order.enqueue("two"), tasks.identify.enqueue("three")]
        with BackgroundWorker(make_worker()):
            for result in results:
                assert broker.handle(result.id).wait(timeout=10).success
            assert len(opened) == 3
            assert all(connection.connection is None for connection in opened)
    finally:
        connection_created.disconnect(note)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ulr": "memory://"}, "did you mean 'url'"),
        ({"enqueue_on_commit": "yes"}, "enqueue_on_commit is 'yes'; expected a bool"),
        ({"task_options": {"run_timeout": -1}}, "run_timeout"),
        ({"task_options": 7}, "task_options is 7"),
        ({"url": "nonsense"}, "nonsense"),
        ({"url": "redis://me:hunter2@host:port/0"}, "port"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        TranshipBackend("mine", {"OPTIONS": options})
    assert said in str(caught.value)
    assert "TASKS['mine']['OPTIONS']" in str(caught.value)
    assert "hunter2" not in json.dumps(str(caught.value))


def test_no_password_is_shown() -> None:
    backend = TranshipBackend("mine", {"OPTIONS": {"url": "redis://me:hunter2@host/0"}})
    assert "hunter2" not in repr(backend.told)
