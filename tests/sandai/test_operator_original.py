"""Clients in the field call an operator on tranship: plain Celery, and every method of the original client."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from operators import Seen, clipper, echo, need_plugin, until
from operators_original import OriginalClient

from tranship.testing.background import BackgroundWorker
from tranship.testing.services import Service

if find_spec("celery") is None:
    pytest.skip("the clients in the field need Celery", allow_module_level=True)

VIDEO = {"uri": "file:///tmp/in.mp4", "slot": "video", "meta": {"fps": 24}}
CLIP = {**VIDEO, "slot": "clip"}
DATABASE = 7


@pytest.fixture(scope="module")
def server(tranship_service) -> Service:
    need_plugin("redis")
    return tranship_service("redis")


@pytest.fixture(scope="module")
def url(server) -> Iterator[str]:
    from redis import Redis

    address = f"{server.url.rpartition('/')[0]}/{DATABASE}"
    with Redis.from_url(address) as redis:
        redis.flushdb()
    yield address
    with Redis.from_url(address) as redis:
        redis.flushdb()


@pytest.fixture
def redis(url):
    from redis import Redis

    with Redis.from_url(url) as redis:
        yield redis


@pytest.fixture(scope="module")
def original(url) -> Iterator[OriginalClient]:
    with OriginalClient(url) as client:
        yield client


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def echoing(url, seen):
    operator = echo(url, seen, concurrency=16)
    with BackgroundWorker(operator.worker()):
        yield operator


@pytest.fixture(scope="module")
def clipping(url):
    operator = clipper(url)
    with BackgroundWorker(operator.worker()):
        yield operator


def process(**more):
    return {
        "meta": {"persistent-output": False},
        "artifacts": [VIDEO],
        "options": {"clip_duration": 10},
        "deadline": time.time() + 3600,
        **more,
    }


# Plain Celery, with exactly what the original client sends.


@pytest.mark.parametrize("serializers", [("msgpack", "json"), ("json", "json")], ids="-".join)
@pytest.mark.parametrize("priority", ["high", "normal", "low", "very_low"])
def test_a_celery_client_is_answered(original, clipping, serializers, priority):
    answer = original.raw(clipping.task_name, clipping.queues[priority], serializers=serializers, **process())
    assert answer.value == {
        "status": "success",
        "artifacts": [CLIP],
        "results": {"clips": 1, "longest": 10.0},
    }


def test_a_celery_client_gets_error_envelopes(original, clipping):
    queue = clipping.queues["normal"]
    late = original.raw(clipping.task_name, queue, **process(deadline=time.time() - 1)).value
    assert (late["status"], late["error"]["error_type"]) == ("error", "TaskDeadlineExceededError")
    crash = original.raw(clipping.task_name, queue, **process(options={"clip_duration": 1, "name": "crash"})).value
    assert (crash["status"], crash["error"]["error_type"]) == ("error", "RuntimeError")


def test_results_in_msgpack_where_the_operators_environment_says_so(url, original, monkeypatch):
    monkeypatch.setenv("SANDAI_OPERATOR_CELERY_RESULT_SERIALIZER", "msgpack")
    operator = clipper(url, "v-msgpack")
    with BackgroundWorker(operator.worker()):
        answer = original.raw(
            operator.task_name, operator.queues["normal"], serializers=("msgpack", "msgpack"), **process()
        )
    assert answer.value["results"] == {"clips": 1, "longest": 10.0}


def test_a_cancel_key_is_the_bare_name_of_a_key(original, echoing, redis, seen):
    queue = echoing.queues["normal"]
    redis.set("job-flagged", "1", ex=60)
    before = len(seen.calls)
    skipped = original.raw(echoing.task_name, queue, **process(cancel_key="job-flagged")).value
    assert skipped["error"]["error_type"] == "TaskCancelledError"
    assert skipped["error"]["error_details"] == {"cancel_key": "job-flagged"}
    assert len(seen.calls) == before
    redis.delete("job-flagged")
    again = original.raw(echoing.task_name, queue, **process(cancel_key="job-flagged")).value
    assert again["error"]["error_type"] == "TaskCancelledError", "it is remembered"
    other = original.raw(echoing.task_name, queue, **process(cancel_key="job-other")).value
    assert other["status"] == "success"


@pytest.mark.parametrize("name", ["_kombu.binding.mine", "celery-task-meta-1", "tranship:mine", "q\x06\x163"])
def test_a_name_of_the_brokers_own_is_no_cancel(original, echoing, redis, name):
    redis.set(name, "1", ex=60, nx=True)
    assert original.raw(echoing.task_name, echoing.queues["low"], **process(cancel_key=name)).value["status"] == (
        "success"
    )
    redis.delete(name)


def test_the_result_database_is_where_cancels_are_looked_for(url, original, seen):
    from redis import Redis

    results = f"{url.rpartition('/')[0]}/{DATABASE + 1}"
    operator = echo(url, seen, "v-apart", result_backend=results)
    with Redis.from_url(results) as store, BackgroundWorker(operator.worker()):
        store.set("job-apart", "1", ex=60)
        original.raw(operator.task_name, operator.queues["high"], within=0.1, **process(cancel_key="job-apart"))
        (key,) = until(lambda: store.keys("celery-task-meta-*"), "the result is in its own database")
        assert b"TaskCancelledError" in store.get(key)
        store.flushdb()


def test_a_cancel_that_cannot_be_looked_for_is_none(url, original, redis, seen, caplog):
    ours = [f"~{prefix}*" for prefix in ("*.echo.v-blind", "unacked", "celery", "_kombu", "tranship:")]
    redis.execute_command("ACL", "SETUSER", "blind", "on", ">pw", *ours, "&*", "+@all")
    operator = echo(url.replace("redis://", "redis://blind:pw@"), seen, "v-blind")
    with BackgroundWorker(operator.worker()):
        redis.set("job-unseen", "1", ex=60)
        queue = operator.queues["normal"]
        answer = original.raw(operator.task_name, queue, **process(cancel_key="job-unseen")).value
    redis.execute_command("ACL", "DELUSER", "blind")
    assert answer["status"] == "success", "working for nobody is better than not working for somebody"
    (said,) = (one.getMessage() for one in caplog.records if "job-unseen" in one.getMessage())
    assert "is not known" in said
    assert "pw" not in said


def test_nothing_is_left_in_celerys_books(original, echoing, redis):
    assert original.raw(echoing.task_name, echoing.queues["normal"], **process()).value["status"] == "success"
    until(lambda: not redis.hlen("unacked") and not redis.zcard("unacked_index"), "unacked is empty")


# The original client, each of its methods.

needs_original = pytest.mark.skipif(
    find_spec("sandai") is None or find_spec("sandai.operator_client") is None,
    reason="sandai-operator-client is not installed (dependency group sandai)",
)
BOTH = pytest.mark.parametrize("asynchronous", [False, True], ids=["blocking", "async"])
OPTIONS = {"clip_duration": 10}


@needs_original
@BOTH
def test_sync(original, clipping, asynchronous):
    answer = original.call(clipping, "sync", asynchronous=asynchronous, input_artifacts=[VIDEO], options=OPTIONS)
    assert (answer.error, answer.text) == ("", "")
    assert list(answer.value) == [[CLIP], {"clips": 1, "longest": 10.0}]


@needs_original
@BOTH
def test_async_call(original, clipping, asynchronous):
    answer = original.call(clipping, "async_call", asynchronous=asynchronous, input_artifacts=[VIDEO], options=OPTIONS)
    assert answer.value == {"status": "success", "artifacts": [CLIP], "results": {"clips": 1, "longest": 10.0}}


@needs_original
@BOTH
def test_desc(original, clipping, asynchronous):
    described = clipping.describe()
    del described["status"]
    assert original.call(clipping, "desc", asynchronous=asynchronous).value == described


@needs_original
@BOTH
def test_probe_and_ping(original, echoing, seen, asynchronous):
    before = len(seen.calls)
    probed = original.call(echoing, "probe", asynchronous=asynchronous).value
    assert (probed["submit_ok"], probed["retrieval_ok"], probed["response_ok"]) == (True, True, True)
    assert original.call(echoing, "ping", asynchronous=asynchronous).value is True
    assert len(seen.calls) == before, "no work was done"


def tasks(*durations):
    return [([VIDEO], {"clip_duration": one}) for one in durations]


@needs_original
@BOTH
@pytest.mark.parametrize("method", ["batch_sync_detailed", "batch_submit"])
def test_structured_batches(original, clipping, method, asynchronous):
    answer = original.call(clipping, method, tasks(1, -1, 3), asynchronous=asynchronous)
    assert [(row[0], row[3]) for row in answer.value] == [(0, ""), (1, "TaskExecutionError"), (2, "")]
    assert [row[2] for row in answer.value if not row[3]] == [
        {"clips": 1, "longest": 1.0},
        {"clips": 1, "longest": 3.0},
    ]


@needs_original
@BOTH
def test_legacy_batches(original, clipping, asynchronous):
    answer = original.call(clipping, "batch_sync", tasks(1, 2), asynchronous=asynchronous)
    assert [list(one) for one in answer.value] == [
        [[CLIP], {"clips": 1, "longest": 1.0}],
        [[CLIP], {"clips": 1, "longest": 2.0}],
    ]
    handles = original.call(clipping, "batch_async", tasks(1, 2), asynchronous=asynchronous)
    assert [one["status"] for one in handles.value] == ["success", "success"]


@needs_original
@BOTH
def test_its_typed_errors(original, clipping, echoing, redis, asynchronous):
    def sync(operator, options, **more):
        return original.call(operator, "sync", asynchronous=asynchronous, input_artifacts=[], options=options, **more)

    unusable = sync(clipping, {"clip_duration": 1, "name": "unusable"})
    assert (unusable.error, unusable.details) == ("TaskExecutionError", {"frame": 7})
    assert "no key frames" in unusable.text
    crash = sync(clipping, {"clip_duration": 1, "name": "crash"})
    assert crash.error == "TaskExecutionError", "a failure whose text says 'timed out' is no timeout"
    misfit = sync(clipping, {"clip_duration": "long"})
    assert (misfit.error, "clip_duration" in misfit.text) == ("TaskExecutionError", True)
    redis.set("job-original", "1", ex=60)
    assert sync(echoing, {}, cancel_key="job-original").error == "TaskCancelledError"
    late = original.call(echoing, "async_call", asynchronous=asynchronous, input_artifacts=[], options={}, timeout=-5)
    assert late.value["error"]["error_type"] == "TaskDeadlineExceededError"


@needs_original
@BOTH
def test_persistent_output(original, echoing, seen, asynchronous):
    original.call(
        echoing,
        "sync",
        asynchronous=asynchronous,
        input_artifacts=[VIDEO],
        options={"label": "kept"},
        persistent_output=True,
        cancel_key="job-kept",
    )
    call = seen.calls[-1]
    assert (call.options["label"], call.persistent_output, call.cancel_key) == ("kept", True, "job-kept")
    assert 0 < call.remaining() <= 28800


@needs_original
def test_each_priority_has_its_queue(original, echoing):
    for priority, queue in original.call(echoing, "get_queue_info").value.items():
        assert echoing.queues[priority] == queue
        answer = original.call(echoing, "sync", input_artifacts=[], options={}, priority=priority)
        assert answer.value[1]["queue"] == queue


# RabbitMQ between them, results in Redis.


@pytest.fixture(scope="module")
def rabbitmq(tranship_service) -> str:
    need_plugin("rabbitmq")
    return tranship_service("rabbitmq").url


@needs_original
@BOTH
def test_over_rabbitmq(rabbitmq, url, seen, asynchronous):
    operator = echo(rabbitmq, seen, f"v-{uuid.uuid4().hex}", result_backend=url)
    with OriginalClient(rabbitmq, url) as original, BackgroundWorker(operator.worker()):
        answer = original.call(operator, "sync", asynchronous=asynchronous, input_artifacts=[VIDEO], options={"n": 1})
        assert (answer.error, answer.text) == ("", "")
        assert list(answer.value) == [[VIDEO], {"options": {"n": 1}, "queue": operator.queues["normal"]}]
        assert original.call(operator, "probe", asynchronous=asynchronous).value["response_ok"]
        payload = process(deadline=time.time() - 1)
        late = original.raw(operator.task_name, operator.queues["very_low"], **payload).value
        assert late["error"]["error_type"] == "TaskDeadlineExceededError"
