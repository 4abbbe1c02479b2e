"""What tranship encodes runs on a real Celery worker, and a real Celery client reads how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from interop.celery_client import CeleryClient
from interop.runs import read, until
from interop.sites import Site
from interop.tranship_app import add, count, echo, fail, flaky, seen, slow
from interop.workers import CeleryWorker
from tranship import Client, Settings, TaskState, named
from tranship.errors import DeadlineExceeded, QueueUnread, TaskCancelled, TaskFailed, TaskTimedOut

VALUES = ["héllo ☃ 😀", b"\x00\xff raw", b"text", "", None, True, 2**53 + 1, 1.5, [], {"a": [1, {}, None]}]
TYPED = [datetime(2031, 2, 3, 4, 5, 6, 789000, UTC), date(2031, 2, 3), Decimal("1.50"), UUID(int=7)]
"""What Celery's JSON carries and its msgpack does not."""


LEVELS = ["very_low", "low", "normal", "high"]

ACKNOWLEDGED = "everything is acknowledged"
"""Waited for before a Celery worker is killed: it acknowledges a moment after the result is there, and what it has not
acknowledged comes back to a queue that nobody reads any more."""


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site, folder) -> Iterator[CeleryWorker]:
    with CeleryWorker(site.url, folder, **site.config) as worker:
        yield worker


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[Client]:
    with site.client() as client:
        yield client


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_values_arrive_unchanged(client, celery: CeleryClient, site: Site, serializer):
    values = [*VALUES, *(TYPED if serializer == "json" else [])]
    handles = client.submit_many(echo.options(serializer=serializer).call(value) for value in values)
    assert [result.value for result in client.collect(handles, 10)] == values
    if site.shared:
        assert [answer.value for answer in celery.get_many([handle.id for handle in handles])] == values


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_failures_keep_their_type(client, celery: CeleryClient, site: Site, serializer):
    handle = client.submit(fail.options(serializer=serializer), "tray 2")
    with pytest.raises(TaskFailed) as failed:
        handle.result(timeout=10)
    assert (failed.value.type, str(failed.value)) == ("interop.problems.OutOfPaper", "tray 2")
    assert "celery_app.py" in (failed.value.traceback or "")
    if site.shared:
        answer = celery.get(handle.id)
        assert (answer.state, answer.ours, answer.text) == ("FAILURE", True, "tray 2")


def test_a_task_celery_does_not_know(client, celery: CeleryClient, site: Site, worker):
    handle = client.submit(named("interop.nowhere", queue="interop"))
    if not site.shared:
        # Of what it does not know, Celery's worker tells nobody who waits at a reply queue.
        until(lambda: "Received unregistered task of type 'interop.nowhere'" in worker.output(), "it is refused")
        return
    with pytest.raises(TaskFailed) as failed:
        handle.result(timeout=10)
    assert (failed.value.type, failed.value.code) == ("celery.exceptions.NotRegistered", "UNKNOWN_TASK")
    assert celery.get(handle.id).error == "celery.exceptions.NotRegistered"


def test_a_queue_that_celery_reads_is_read_and_another_one_is_not(site: Site, worker):
    settings = Settings.load({}, broker_url=site.url, result_url=site.result_url, unread_queues="refuse")
    with Client(settings=settings) as client:
        assert client.submit(named("interop.add", queue="interop"), 1, 2).result(timeout=10) == 3
        with pytest.raises(QueueUnread, match="no worker that is known reads queue 'nowhere'"):
            client.submit(named("interop.add", queue="nowhere"), 1, 2)


def test_celery_retries_until_success(client, celery: CeleryClient, site: Site, runs):
    handle = client.submit(flaky, 2)
    assert handle.result(timeout=10) == 2
    if site.shared:
        assert celery.get(handle.id).value == 2
    assert [run.label for run in read(runs) if run.id == handle.id] == ["0", "1", "2"]


def test_not_before_is_an_eta(client, runs):
    submitted = time.time()
    handle = client.submit(count.options(delay=0.7), 1)
    assert handle.result(timeout=10) == 1
    (run,) = (run for run in read(runs) if run.id == handle.id)
    assert run.at - submitted >= 0.7


def test_a_deadline_expires(client, celery: CeleryClient, site: Site, runs):
    # Celery looks at the date when it takes a task, and again when its eta has come.
    handle = client.submit(count.options(deadline_in=0.3, delay=0.6), 1)
    with pytest.raises(DeadlineExceeded):
        handle.result(timeout=10)
    assert handle.state() is TaskState.EXPIRED
    if site.shared:
        answer = celery.get(handle.id)
        assert (answer.state, answer.error, answer.text) == ("REVOKED", "celery.exceptions.TaskRevokedError", "expired")
    assert not [run for run in read(runs) if run.id == handle.id]


def test_a_deadline_that_is_kept(client):
    assert client.submit(add.options(deadline_in=30), 1, 2).result(timeout=10) == 3


def test_cancel_revokes(client, celery: CeleryClient, site: Site, worker, runs):
    handle = client.submit(count.options(delay=1.0), 1)
    if site.on_redis:
        # On RabbitMQ the broker keeps it until its time has come.
        until(lambda: f"{handle.id}] received" in worker.output(), "Celery has taken the task")
    handle.cancel()
    with pytest.raises(TaskCancelled):
        handle.result(timeout=10)
    if site.shared:
        answer = celery.get(handle.id)
        assert (answer.state, answer.error) == ("REVOKED", "celery.exceptions.TaskRevokedError")
    until(
        lambda: f"Discarding revoked task: interop.count[{handle.id}]" in worker.output(),
        "Celery drops the task when its time has come",
    )
    assert not [run for run in read(runs) if run.id == handle.id]


def test_what_the_handler_sees(client):
    options = seen.options(run_timeout=30, headers={"colour": "red"})
    handle = client.submit(options)
    said = handle.result(timeout=10)
    assert said["timelimit"] == [30, None]
    assert said["colour"] == "red"
    assert (said["retries"], said["root_id"]) == (0, handle.id)


def test_a_result_that_is_not_wanted(client, site: Site, worker):
    handle = client.submit(echo.options(store_result=False), 1)
    until(lambda: f"interop.echo[{handle.id}] succeeded" in worker.output(), "the task has ended")
    assert not site.kept(handle.id)


def test_started_is_seen(client, site: Site):
    if not site.shared:
        pytest.skip("who gets results brought hears of the end alone")
    handle = client.submit(slow, 0.4)
    until(lambda: handle.state() is TaskState.STARTED, "the running task's state")
    assert handle.result(timeout=10) == "slept"


def test_four_levels_in_order(site: Site, folder, runs):
    ours, theirs = site.ranked
    levels = ["very_low", "low", "normal", "high"] * 2
    ranked = count.options(queue="ranked")
    with site.client(**ours) as client:
        handles = client.submit_many(ranked.options(priority=level).call(n) for n, level in enumerate(levels))
        more = {**theirs, **site.config}
        with CeleryWorker(site.url, folder, name="ranked", queue="ranked", pool="solo", concurrency=1, **more):
            assert [result.value for result in client.collect(handles, 10)] == list(range(8))
            site.settled(ACKNOWLEDGED)
    ids = {handle.id for handle in handles}
    order = [int(run.label) for run in read(runs) if run.id in ids]
    assert order == [3, 7, 2, 6, 1, 5, 0, 4]


def test_every_level_reaches_a_worker_that_was_told_of_none(client):
    handles = client.submit_many(count.options(priority=level).call(n) for n, level in enumerate(LEVELS))
    assert [result.value for result in client.collect(handles, 10)] == [0, 1, 2, 3]


def test_what_is_urgent_overtakes_in_a_queue_with_priorities(client, site: Site, folder, runs):
    if site.on_redis:
        pytest.skip("a queue of RabbitMQ has priorities where it was declared with them")
    config = {"task_queue_max_priority": 10, "task_acks_late": True, **site.config}
    ranked = count.options(queue="overtaken")
    with CeleryWorker(site.url, folder, name="overtaken", queue="overtaken", pool="solo", concurrency=1, **config):
        # The client says nothing of max_priority: it sees that the queue has it.
        blocking = client.submit(slow.options(queue="overtaken"), 1.0)
        until(lambda: any(run.id == blocking.id for run in read(runs)), "the worker is busy")
        handles = client.submit_many(ranked.options(priority=level).call(n) for n, level in enumerate(LEVELS))
        assert [result.value for result in client.collect(handles, 10)] == [0, 1, 2, 3]
        site.settled(ACKNOWLEDGED)
    ids = {handle.id for handle in handles}
    order = [int(run.label) for run in read(runs) if run.id in ids]
    # One may have been fetched while the first one ran.
    assert order.index(LEVELS.index("high")) <= 1


def test_the_time_limit_is_enforced(client, celery: CeleryClient, site: Site, folder):
    with CeleryWorker(site.url, folder, name="limited", queue="limited", pool="prefork", concurrency=1, **site.config):
        handle = client.submit(slow.options(queue="limited", run_timeout=0.5), 30)
        with pytest.raises(TaskTimedOut):
            handle.result(timeout=15)
        site.settled(ACKNOWLEDGED)
    if site.shared:
        assert celery.get(handle.id).error == "billiard.exceptions.TimeLimitExceeded"


def test_celery_answers_in_msgpack(client, site: Site, folder):
    # What a result is written in is Celery's configuration; ours reads both.
    with CeleryWorker(site.url, folder, name="packed", queue="packed", result_serializer="msgpack", **site.config):
        assert client.submit(echo.options(queue="packed"), VALUES).result(timeout=10) == VALUES
        failed = client.submit(fail.options(queue="packed", serializer="msgpack"), "tray 2").wait(timeout=10)
        site.settled(ACKNOWLEDGED)
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("interop.problems.OutOfPaper", "tray 2")


def test_nothing_is_left_and_celery_is_well(client, celery: CeleryClient, site: Site, worker):
    assert client.submit(add, 20, 3).result(timeout=10) == 23
    assert celery.get(celery.send("add", 20, 3)).value == 23
    assert worker.alive
    site.settled(ACKNOWLEDGED)
    assert "Unrecoverable error" not in worker.output()
    assert "onnection to broker lost" not in worker.output()
