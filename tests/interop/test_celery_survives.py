"""Nothing that tranship leaves on a database harms the Celery workers there."""

from __future__ import annotations

import json
import time

import pytest

from interop.celery_client import CeleryClient
from interop.runs import read, times, until
from interop.tranship_app import TASKS, add, count, flaky, slow
from interop.workers import CeleryWorker, TranshipWorker
from tranship import Client, TaskState, Worker, named
from tranship.errors import TaskDeadLettered
from tranship.testing.background import BackgroundWorker

HELD = ("unacked", "unacked_index", "tranship:leases")


def leave_traces(client: Client) -> None:
    """Everything tranship keeps on a broker."""
    with pytest.raises(TaskDeadLettered):
        client.submit(named("interop.nowhere", queue="interop")).result(timeout=5)
    assert client.submit(flaky, 1).result(timeout=5) == 1
    client.submit(add.options(dedup_key="once"), 1, 2).result(timeout=5)
    client.submit(add.options(task_id="mine"), 1, 2).result(timeout=5)
    client.submit(add.options(queue="elsewhere", delay=3600), 1, 2)
    client.submit(add.options(queue="elsewhere", priority="low"), 1, 2)
    client.cancel("some-key")
    client.cancel(task_id="nobody")


def test_a_celery_worker_takes_over(url, folder, redis, runs):
    with Client(url) as client:
        with BackgroundWorker(Worker(url, tasks=TASKS, shutdown_timeout=5)):
            redis.lpush("interop", b"malformed")
            leave_traces(client)
            until(lambda: redis.zcard("tranship:rows:d") == 2, "the malformed element is a dead letter")
        # A worker dies with tasks in its hands, long before its leases end.
        with TranshipWorker(f"{url}?lease=60", folder, concurrency=3) as doomed:
            handles = client.submit_many(slow.call(1.0) for _ in range(3))
            until(lambda: {handle.id for handle in handles} <= times(runs).keys(), "it runs them")
            doomed.kill()
        check_held(redis)
        latest = max(score for _, score in redis.zscan_iter("unacked_index"))
        until(lambda: time.time() > latest + 1.1, "Celery's visibility timeout has passed")
        timeout = {"broker_transport_options": {"visibility_timeout": 1}}
        with CeleryWorker(url, folder, concurrency=4, **timeout) as worker, CeleryClient(url) as celery:
            assert [result.value for result in client.collect(handles, 10)] == ["slept"] * 3
            assert {run.who for run in read(runs)[-3:]} == {"celery"}
            assert celery.get(celery.send("add", 20, 3)).value == 23
            assert client.submit(add, 20, 3).result(timeout=10) == 23
            assert "Unrecoverable error" not in worker.output()
            until(lambda: not redis.exists("unacked", "unacked_index"), "Celery has acknowledged them")
        check_nothing_comes_back(url, client, redis, runs)


def check_held(redis) -> None:
    """What the dead worker held is as Celery would have recorded it."""
    held = redis.hgetall("unacked")
    assert len(held) == redis.zcard("unacked_index") == redis.zcard("tranship:leases") == 3
    for tag, value in held.items():
        element, exchange, routing_key = json.loads(value)
        assert (element["properties"]["delivery_tag"].encode(), exchange, routing_key) == (tag, "", "interop")


def check_nothing_comes_back(url, client, redis, runs) -> None:
    """The leases that are left have nothing behind them; a worker of ours lets them go."""
    before = len(read(runs))
    with redis.pipeline() as pipe:
        # As if the sixty seconds had passed.
        for token in redis.zrange("tranship:leases", 0, -1):
            pipe.zadd("tranship:leases", {token: time.time() - 1}, xx=True)
        pipe.execute()
    with BackgroundWorker(Worker(f"{url}?lease=1", tasks=TASKS, shutdown_timeout=5)):
        until(lambda: not redis.exists(*HELD), "nothing is left")
        assert client.submit(count, 1).result(timeout=5) == 1
    assert len(read(runs)) == before + 1


def test_a_cancel_that_celery_workers_did_not_hear(url, folder, redis, runs):
    """Celery's workers ask their peers what was revoked when they start: ours know it."""
    with Client(url) as client:
        handle = client.submit(count.options(queue="later"), 1)
        with BackgroundWorker(Worker(url, tasks=TASKS, shutdown_timeout=5)):
            handle.cancel()
            with CeleryWorker(url, folder, name="late", queue="later", mingle=True) as worker:
                assert client.submit(count.options(queue="later"), 2).result(timeout=10) == 2
                assert handle.wait(timeout=10).state is TaskState.CANCELLED
                assert "mingle: sync with" in worker.output()
    assert not [run for run in read(runs) if run.id == handle.id]
