"""Every captured AMQP message: a tranship worker runs it or refuses it, answers as Celery would, and sends the same."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import amqp
import pytest
from kombu import Connection

from golden.golden_vectors import FOLDER, Vector, vectors
from interop.runs import note, read, until
from interop.sites import Site
from tranship import Worker, current, task
from tranship.testing.background import BackgroundWorker

QUEUES = ["peers", "high.echo.v1", "normal.echo.v1", "low.echo.v1", "very_low.echo.v1"]
VECTORS = [vector for vector in vectors("message-body") if vector.about["transport"] == "amqp"]
RESULTS = [vector for vector in vectors("result") if vector.about["transport"] == "amqp"]
REPLIES = "11111111-1111-3111-8111-111111111111"
LONGEST_EXPIRATION = 2**32 - 1


@task(name="peers.add", queue="peers")
async def add(a: int, b: int) -> int:
    note(current().id, "tranship", "add")
    return a + b


@task(name="peers.echo", queue="peers")
async def echo(**kwargs: Any) -> dict[str, Any]:
    note(current().id, "tranship", "echo")
    return kwargs


@task(name="peers.boom", queue="peers")
async def boom(message: str) -> None:
    raise ValueError(message)


@task(name="sandai_operator.echo.v1.process_task", queue="normal.echo.v1")
async def process_task(**kwargs: Any) -> dict[str, Any]:
    note(current().id, "tranship", "sandai")
    return kwargs


class Wire:
    """An AMQP connection of Celery's own library, and a reply queue as Celery declares it."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)
        self.channel: amqp.Channel = self._connection.channel()

    def declare_replies(self) -> None:
        self.channel.queue_declare(REPLIES, durable=True, auto_delete=False, arguments={"x-expires": 86_400_000})

    def publish(self, vector: Vector) -> None:
        captured = properties(vector)
        expiration = captured.get("expiration")
        if expiration and int(expiration) > LONGEST_EXPIRATION:
            # The server closes the channel of who sends that: Celery's own message would not have arrived.
            del captured["expiration"]
        headers = captured.pop("headers")
        self.channel.basic_publish(
            amqp.Message(vector.read(), application_headers=headers, **captured), "", routing_key(vector)
        )

    def reply(self, within: float = 20.0) -> amqp.Message:
        return until(lambda: self.channel.basic_get(REPLIES, no_ack=True), "the answer", within)

    def take(self, queue: str) -> amqp.Message:
        return until(lambda: self.channel.basic_get(queue, no_ack=True), f"a message in {queue}")

    def silent(self) -> bool:
        return self.channel.basic_get(REPLIES, no_ack=True) is None

    def close(self) -> None:
        self._connection.release()


@pytest.fixture(scope="module")
def site(make_site) -> Site:
    return make_site("rabbitmq-rpc")


@pytest.fixture(scope="module")
def worker(site: Site, runs) -> Iterator[Worker]:
    tasks = [add, echo, boom, process_task]
    with BackgroundWorker(site.worker(tasks, queues=QUEUES)) as running:
        yield running.worker


@pytest.fixture
def wire(site: Site) -> Iterator[Wire]:
    wire = Wire(site.url)
    wire.declare_replies()
    yield wire
    wire.close()


def properties(vector: Vector) -> dict[str, Any]:
    published = json.loads((FOLDER / vector.name.replace(".body.bin", ".props.json")).read_bytes())
    return dict(published["properties"])


def routing_key(vector: Vector) -> str:
    published = json.loads((FOLDER / vector.name.replace(".body.bin", ".props.json")).read_bytes())
    return str(published["publish"]["routing_key"])


def test_there_are_golden_vectors():
    assert len(VECTORS) >= 28
    assert len(RESULTS) == 3


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_it_is_run_or_refused(vector: Vector, wire: Wire, site: Site, runs):
    expect = vector.expect.get("body", vector.expect)
    task_id, before = expect["id"], len(read(runs))
    wire.publish(vector)
    case = vector.about["case"]
    if case == "eta":
        # It waits for 2031 outside of the queue, and nobody hears of it.
        until(lambda: waits_elsewhere(site, "peers"), "it waits elsewhere")
        assert wire.silent()
        return
    if case == "limits-headers":
        until(lambda: ran(runs, before, task_id), "it runs")
        until(lambda: "peers" not in site.left(), "it has ended")
        assert wire.silent(), "no result was wanted"
        return
    # What follows a task is sent before it has ended, and may answer first.
    replies = [wire.reply() for _ in range(2 if case == "link" else 1)]
    reply = next(one for one in replies if one.properties["correlation_id"] == task_id)
    document = json.loads(reply.body)
    assert (reply.properties["correlation_id"], document["task_id"]) == (task_id, task_id)
    assert (reply.properties["content_type"], reply.properties["content_encoding"]) == ("application/json", "utf-8")
    check(case, expect, document, ran(runs, before, task_id))


def check(case: str, expect: dict[str, Any], document: dict[str, Any], ran: list[str]) -> None:
    """The answer is what Celery's own would be."""
    status, result = document["status"], document["result"]
    if case == "countdown-expires":
        assert (status, result["exc_type"], ran) == ("REVOKED", "TaskRevokedError", [])
    else:
        assert (status, len(ran)) == ("SUCCESS", 1)
        assert result == (sum(expect["args"]) if expect["task"] == "peers.add" else expect["kwargs"])


def ran(runs, before: int, task_id: str) -> list[str]:
    return [run.label for run in read(runs)[before:] if run.id == task_id]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("vector", [one for one in RESULTS if one.about["case"] != "result-retry"], ids=str)
def test_answers_look_like_celerys(vector: Vector, wire: Wire):
    """As captured: the same keys, and values of the same types, for a success and a failure."""
    captured = json.loads(vector.read())
    name, args = ("peers.add", "[2, 3]") if captured["status"] == "SUCCESS" else ("peers.boom", '["boom"]')
    message = amqp.Message(
        f"[{args}, {{}}, {{}}]",
        application_headers={"task": name, "id": captured["task_id"], "lang": "py"},
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=captured["task_id"],
        reply_to=REPLIES,
    )
    wire.channel.basic_publish(message, "", "peers")
    answer = json.loads(wire.reply().body)
    assert captured.keys() <= answer.keys()
    assert {key: type(answer[key]) for key in captured} == {key: type(value) for key, value in captured.items()}
    for same in ("status", "task_id", "children", "result"):
        assert answer[same] == captured[same]


UNICODE = next(one for one in VECTORS if one.about["case"] == "kwargs-unicode").expect["kwargs"]
SENT = {
    "plain": (add, {}, (2, 3), {}),
    "kwargs-unicode": (echo, {}, (), UNICODE),
    "limits-headers": (
        echo,
        {"run_timeout": 30, "store_result": False, "headers": {"peer_extra": "x1"}},
        (),
        {"k": 1},
    ),
}


@pytest.mark.parametrize("case", SENT)
@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_what_we_send_is_what_celery_sends(site: Site, wire: Wire, case, serializer):
    """The properties, the headers and the body that Celery sent for the same task."""
    (vector,) = (one for one in VECTORS if (one.about["case"], one.about["serializer"]) == (case, serializer))
    captured = properties(vector)
    sent_task, options, args, kwargs = SENT[case]
    same = sent_task.options(task_id=captured["correlation_id"], queue="wire", serializer=serializer, **options)
    with site.client() as client:
        client.submit(same, *args, **kwargs)
        sent = wire.take("wire")
    ours, theirs = dict(sent.properties), captured
    assert ours.pop("reply_to", None) != theirs.pop("reply_to"), "each has a queue of its own"
    headers, expected = ours.pop("application_headers"), theirs.pop("headers")
    if serializer == "json":
        assert json.loads(sent.body) == json.loads(vector.read())
    else:
        assert bytes(sent.body) == vector.read()
    assert ours == theirs
    different = {"origin", "argsrepr", "kwargsrepr", "shadow", "timelimit"}
    told = {name: value for name, value in headers.items() if not name.startswith("tranship-")}
    assert {name: told.get(name) for name in expected.keys() - different} == {
        name: value for name, value in expected.items() if name not in different
    }
    assert told["timelimit"][0] == expected["timelimit"][0]


def test_a_delay_in_years_is_kept(site: Site, wire: Wire):
    """Longer than the server's longest timer: 49 days."""
    with site.client() as client:
        began = time.time()
        client.submit(add.options(queue="wire", delay=400 * 86_400), 1, 2)
        assert time.time() - began < 5
        until(lambda: waits_elsewhere(site, "wire"), "it waits elsewhere")
    assert wire.channel.basic_get("wire", no_ack=True) is None


def waits_elsewhere(site: Site, queue: str) -> bool:
    """Whether something waits for its time, and nothing in the queue."""
    left = site.left()
    return queue not in left and any("delay" in name for name in left)
