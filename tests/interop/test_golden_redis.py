"""Every captured element of a Redis list: a tranship worker runs it or refuses it, and passes it on byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from golden.golden_vectors import Vector, vectors
from interop.runs import note, read, until
from interop.workers import CeleryWorker
from tranship import Client, TaskResult, TaskState, Worker, current, named, task
from tranship.registry import Registry
from tranship.testing.background import BackgroundWorker

QUEUES = ["peers", "high.echo.v1", "normal.echo.v1", "low.echo.v1", "very_low.echo.v1"]
VECTORS = [vector for vector in vectors("message") if vector.about["transport"] == "redis"]
HELD = ("unacked", "unacked_index", "tranship:leases")

# Malformed in every way that kills, blocks or confuses a Celery worker, or is simply nothing.
BAD = [
    b"not JSON",
    b'"a text"',
    b"[]",
    b"{}",
    b"\xff\xfe",
    b'{"body": "", "headers": {}, "properties": {"delivery_tag": "t1"}}',
    b'{"body": "W10=", "headers": null, "properties": {"delivery_tag": "t2", "delivery_info": null}}',
]


def complete(headers: dict[str, Any] | None, body: str = "W1tdLCB7fSwgbnVsbF0=", tag: str = "t") -> bytes:
    """Return an element that a Celery worker could take: what is wrong is inside."""
    info = {"exchange": "", "routing_key": "peers"}
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {"body_encoding": "base64", "delivery_tag": tag, "delivery_info": info},
        }
    ).encode()


INCOMPLETE = {
    "headers-null": complete(None, tag="b1"),
    "no-id": complete({"task": "peers.add"}, tag="b2"),
    "no-task": complete({"id": "no-task"}, tag="b3"),
    "two-elements": complete({"task": "peers.add", "id": "two-elements"}, "W1tdLCB7fV0=", tag="b4"),
    "not-base64": complete({"task": "peers.add", "id": "not-base64"}, "?", tag="b5"),
    "eta-number": complete({"task": "peers.add", "id": "eta-number", "eta": 1234}, tag="b6"),
}


@task(name="peers.add", queue="peers")
async def add(a: int, b: int) -> int:
    note(current().id, "tranship", "add")
    return a + b


@task(name="peers.echo", queue="peers")
async def echo(**kwargs: Any) -> dict[str, Any]:
    note(current().id, "tranship", "echo")
    return kwargs


@task(name="sandai_operator.echo.v1.process_task", queue="normal.echo.v1")
async def process_task(**kwargs: Any) -> dict[str, Any]:
    note(current().id, "tranship", "sandai")
    return {"status": "success", "artifacts": [], "results": kwargs}


TASKS = [add, echo, process_task]


@pytest.fixture(scope="module")
def worker(url, runs) -> Iterator[Worker]:
    with BackgroundWorker(Worker(url, tasks=TASKS, queues=QUEUES, shutdown_timeout=5)) as running:
        yield running.worker


@pytest.fixture(scope="module")
def client(url) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def test_there_are_golden_vectors():
    assert len(VECTORS) >= 41


async def test_release_gives_back_the_same_bytes(url, redis):
    # Before the worker of the other tests is started.
    backend = Registry().create(url)
    await backend.open()
    try:
        consumer = backend.consumer(QUEUES)
        for vector in VECTORS:
            key, raw = vector.about["key"], vector.read()
            redis.lpush(key, raw)
            (delivery,) = (await consumer.receive(1, 1.0)).deliveries
            (held,) = redis.hvals("unacked")
            routing = json.loads(raw)["properties"]["delivery_info"]["routing_key"]
            assert held == b'[%b, "", "%b"]' % (raw, routing.encode()), "what Celery would restore"
            await consumer.release([delivery])
            assert redis.lrange(key, 0, -1) == [raw], vector.name
            assert not redis.exists(*HELD)
            redis.delete(key)
    finally:
        await backend.aclose()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_it_is_run_or_refused(vector: Vector, client: Client, redis, runs):
    task_id = facts(vector)["id"]
    client.forget([task_id])
    before = len(read(runs))
    redis.lpush(vector.about["key"], vector.read())
    if vector.about["case"] == "eta":
        until(lambda: redis.zscore("tranship:delayed:peers", task_id), "it waits for its time")
        due = datetime.fromisoformat(json.loads(vector.read())["headers"]["eta"]).timestamp()
        assert redis.zscore("tranship:delayed:peers", task_id) == pytest.approx(due, abs=0.01)
        # Not cancelled: the other serializer's has the same id.
        redis.delete("tranship:delayed:peers", "tranship:delayed-messages:peers", "tranship:delayed-queues")
    elif vector.about["case"] == "limits-headers":
        until(lambda: ran(runs, before, task_id), "it runs")
        until(lambda: not redis.exists(*HELD), "it has ended")
        assert not redis.exists(f"celery-task-meta-{task_id}"), "no result was wanted"
    else:
        check(vector, client.handle(task_id).wait(timeout=5), ran(runs, before, task_id))
    until(lambda: not redis.exists(*HELD, vector.about["key"]), "nothing is left")


def check(vector: Vector, result: TaskResult, ran: list[str]) -> None:
    case, expect = vector.about["case"].split(".")[0], facts(vector)
    if case == "countdown-expires":
        assert (result.state, ran) == (TaskState.EXPIRED, [])
    else:
        assert result.value == value(case, expect)
        assert len(ran) == 1


def facts(vector: Vector) -> dict[str, Any]:
    """What the message says of its task; protocol 1 says it in the body."""
    return vector.expect.get("body", vector.expect)


def value(case: str, expect: dict[str, Any]) -> Any:
    if case.startswith("sandai"):
        return {"status": "success", "artifacts": [], "results": expect["kwargs"]}
    return sum(expect["args"]) if expect["task"] == "peers.add" else expect["kwargs"]


def ran(runs, before: int, task_id: str) -> list[str]:
    return [run.label for run in read(runs)[before:] if run.id == task_id]


@pytest.mark.usefixtures("worker")
def test_malformed_elements_become_dead_letters(client, redis):
    redis.delete("tranship:rows:d")
    for bad in [*BAD, *INCOMPLETE.values()]:
        redis.lpush("peers", bad)
    # The next good message is unaffected.
    assert client.submit(add, 1, 2).result(timeout=5) == 3
    until(lambda: redis.zcard("tranship:rows:d") == len(BAD) + len(INCOMPLETE), "all are dead letters")
    letters = redis.mget([b"tranship:row:" + name for name in redis.zrange("tranship:rows:d", 0, -1)])
    said = [json.loads(letter.split(b"\n", 2)[1]) for letter in letters]
    assert all(reason == "malformed" and detail for reason, detail, *_ in said)
    until(lambda: not redis.exists(*HELD, "peers"), "nothing is left")
    # Whoever waits for one whose id can be read is told.
    for name in ("two-elements", "not-base64", "eta-number"):
        assert client.handle(name).wait(timeout=5).state is TaskState.DEAD_LETTERED


def test_celery_lives_with_what_is_there_now(url, folder, redis):
    assert redis.exists("tranship:rows:d"), "the dead letters of the test before"
    with CeleryWorker(url, folder, queue=",".join(["interop", *QUEUES])) as worker:
        with Client(url) as client:
            assert client.submit(named("interop.add", queue="peers"), 1, 2).result(timeout=10) == 3
        assert "Unrecoverable error" not in worker.output()
