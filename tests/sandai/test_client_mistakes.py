"""What can go wrong: the documented exception each time, by type and within the caller's budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from field import CeleryOperator
from sides import KINDS, Side, side_of

from tranship.compat.sandai import (
    AsyncOperatorClient,
    InvalidResultFormatError,
    InvalidTaskStatusError,
    OperatorClient,
    OperatorConnectionError,
    OperatorError,
    TaskDeadlineExceededError,
    TaskExecutionError,
    TaskTimeoutError,
)
from tranship.errors import InvalidArgumentsError, InvalidOptionError, TaskFailed, TaskResultError, TranshipError
from tranship.testing.proxy import FaultProxy
from tranship.testing.services import ServiceFinder, redis_recipe
from tranship.testing.services._contract import free_port

pytestmark = pytest.mark.usefixtures("no_links_left")


@pytest.fixture(params=KINDS)
def side(request, field_url) -> Iterator[Side]:
    with side_of(request.param, broker_url=field_url, timeout=10) as side:
        yield side


@pytest.fixture
def client(side, field_operator):
    return side.client()


# What operators answer.


@pytest.mark.parametrize("value", [None, [1, 2], "text", 7, True])
def test_an_answer_that_is_no_envelope(side, client, value):
    with pytest.raises(InvalidResultFormatError) as wrong:
        side(client.sync([], {"do": "raw", "value": value}))
    assert wrong.value.result == value
    assert isinstance(wrong.value, TaskResultError)
    (found,) = side(client.batch_sync_detailed([([], {"do": "raw", "value": value})]))
    assert isinstance(found.error, InvalidResultFormatError)


@pytest.mark.parametrize(
    ("value", "status"), [({}, "unknown"), ({"status": "done"}, "done"), ({"status": None}, "None")]
)
def test_a_status_that_nobody_knows(side, client, value, status):
    with pytest.raises(InvalidTaskStatusError) as wrong:
        side(client.sync([], {"do": "raw", "value": value}))
    assert wrong.value.status == status


@pytest.mark.parametrize(
    ("error", "message", "details"),
    [
        ({"error_type": "E", "error_message": "m", "error_details": {"a": 1}}, "m", {"a": 1}),
        ({"error_message": "m", "error_details": [1]}, "m", {"raw_error_details": [1]}),
        ({}, "Unknown error", {}),
        (None, "Unknown error", {}),
        ("just a text", "just a text", {}),
    ],
)
def test_whatever_stands_in_an_error_envelope(side, client, error, message, details):
    with pytest.raises(TaskExecutionError) as failed:
        side(client.sync([], {"do": "raw", "value": {"status": "error", "error": error}}))
    assert (failed.value.error_message, failed.value.error_details) == (message, details)
    assert isinstance(failed.value, TaskFailed)


def test_an_envelope_with_nulls_is_handed_on(side, client):
    value = {"status": "success", "artifacts": None, "results": None}
    assert side(client.sync([], {"do": "raw", "value": value})) == (None, None)
    assert side(client.sync([], {"do": "raw", "value": {"status": "success"}})) == ([], {})


@pytest.mark.parametrize("do", ["fail", "crash"])
def test_a_failure_whose_text_says_timeout_is_a_failure(side, client, do):
    with pytest.raises(TaskExecutionError, match="timed out") as failed:
        side(client.sync([], {"do": do, "text": "connection timed out (timeout)"}))
    assert not isinstance(failed.value, TimeoutError)
    if do == "crash":
        assert failed.value.error_details == {"exception_type": "RuntimeError"}
        assert "celery_operator.py" in (failed.value.traceback or "")


def test_a_custom_state_is_not_the_end(side, client):
    _, results = side(client.sync([], {"do": "progress"}))
    assert results["payload"]["options"] == {"do": "progress"}


def test_a_custom_state_that_stays_is_no_answer(side, client):
    begun = time.monotonic()
    with pytest.raises(TaskTimeoutError):
        side(client.sync([], {"do": "vanish"}, timeout=1))
    assert 0.9 < time.monotonic() - begun < 3


def test_a_result_that_cannot_be_read(side, field_url, field_redis):
    # Nobody serves this operator: the garbage is ours.
    client = side.client("nobody", "v3")
    submitted = side(client.batch_submit([([], {}), ([], {})]))
    field_redis.set(f"celery-task-meta-{submitted[0].task_id}", b"\xff not json")
    for timeout in (1, 0):
        first, second = side(
            side.client("nobody", "v3", auto_forget_result=False).batch_collect(submitted, timeout=timeout)
        )
        assert isinstance(first.error, InvalidResultFormatError)
        assert isinstance(second.error, TaskTimeoutError)


def test_no_time_at_all(side, client):
    for timeout in (0, -3):
        # An operator may say that it is too late before the caller has looked.
        with pytest.raises((TaskTimeoutError, TaskDeadlineExceededError)):
            side(client.sync([], {}, timeout=timeout))
    handle = side(client.async_call([], {}, timeout=-3))
    envelope = side(handle.get(timeout=10))
    assert envelope["error"]["error_type"] == "TaskDeadlineExceededError"
    (found,) = side(client.batch_collect(side(client.batch_submit([([], {})], timeout=-3)), timeout=10))
    assert isinstance(found.error, TaskDeadlineExceededError)


# Brokers and result backends that are not there.


def test_a_broker_that_was_never_there(side):
    client = side.client(broker_url=f"redis://:secret@127.0.0.1:{free_port()}/0")
    begun = time.monotonic()
    with pytest.raises(OperatorConnectionError, match="video-clipper v1 cannot be reached") as refused:
        side(client.sync([], {}, timeout=5))
    assert isinstance(refused.value, ConnectionError)
    assert "secret" not in str(refused.value)
    assert side(client.ping(timeout=2)) is False
    health = side(client.probe(timeout=2))
    assert (health.submit_ok, health.retrieval_ok, health.response_ok) == (False, False, False)
    (found,) = side(client.batch_submit([([], {})]))
    assert isinstance(found.error, OperatorConnectionError)
    assert side(client.batch_sync([([], {})], timeout=1)) == [([], {})]
    assert time.monotonic() - begun < 10


def test_a_broker_that_says_nothing(side, field_service):
    with FaultProxy("127.0.0.1", int(field_service.url.rpartition(":")[2].partition("/")[0])) as proxy:
        proxy.mute()
        client = side.client(broker_url=proxy.url_for(field_service.url))
        begun = time.monotonic()
        with pytest.raises(OperatorConnectionError):
            side(client.sync([], {}, timeout=1.5))
        assert time.monotonic() - begun < 4


@pytest.fixture
def own_redis():
    """A Redis that this test may harm."""
    service = ServiceFinder([redis_recipe()]).find("redis")
    service.start()
    yield service
    service.close()


def test_a_broker_that_goes_away(side, own_redis):
    client = side.client(broker_url=own_redis.url)
    assert side(client.ping())
    own_redis.pause()
    try:
        begun = time.monotonic()
        with pytest.raises(OperatorConnectionError):
            side(client.sync([], {}, timeout=1.5))
        assert 1 < time.monotonic() - begun < 4
        assert side(client.ping(timeout=1)) is False
        (found,) = side(client.batch_sync_detailed([([], {})], timeout=1))
        assert isinstance(found.error, OperatorError)
        assert time.monotonic() - begun < 9
    finally:
        own_redis.resume()
    assert side(client.ping())


def test_the_result_backend_is_lost_and_comes_back(side, own_redis, field_url, field_folder):
    port = int(own_redis.url.rpartition(":")[2].partition("/")[0])
    results = {"result_backend": own_redis.url, "name": "elsewhere"}
    with CeleryOperator(field_url, field_folder, **results), FaultProxy("127.0.0.1", port) as proxy:
        client = side.client("elsewhere", "v1", result_backend=proxy.url_for(own_redis.url), timeout=15)
        assert side(client.sync([], {}))[0] == []
        submitted = side(client.batch_submit([([], {"seconds": 0.8, "n": n}) for n in range(3)]))
        proxy.refuse()
        proxy.reset()
        back = threading.Timer(1.6, proxy.heal)
        back.start()
        # All three end while nobody can be told.
        found = side(client.batch_collect(submitted, timeout=12))
        back.join()
        assert [one.results["payload"]["options"]["n"] for one in found] == [0, 1, 2]


def test_a_result_backend_that_stays_away(side, own_redis, field_url):
    client = side.client("nobody", "v4", result_backend=own_redis.url)
    assert side(client.ping())
    own_redis.kill()
    begun = time.monotonic()
    with pytest.raises(TaskTimeoutError):
        side(client.sync([], {}, timeout=1))
    assert time.monotonic() - begun < 4
    own_redis.start()


# Arguments.


CONSTRUCTOR = {
    "operator_name": [None, "", 3],
    "operator_version": [None, "", 3],
    "broker_url": [3, "no url", "redis://[", "redis://h:port"],
    "result_backend": [3, "no url"],
    "timeout": ["3600", -1, float("nan"), True],
    "debug": ["yes", 1, None],
    "priority": ["urgent", 3],
    "cancel_key": [3, ["a"]],
    "auto_forget_result": ["no", 0],
    "broker_pool_limit": ["12", -1, 1.5, True],
    "result_backend_max_connections": ["12", -1],
    "backend_pool_limit": ["12", -1],
    "backend_poll_concurrency": ["6", -1],
    "pool_acquire_timeout": ["10", -1],
    "shared_transport_scope": ["planet", 3],
    "task_serializer": ["pickle", 3],
    "result_serializer": ["yaml"],
    "accept_content": ["json", ["pickle"], 3],
}


@pytest.mark.parametrize("make", [OperatorClient, AsyncOperatorClient])
@pytest.mark.parametrize("argument", CONSTRUCTOR)
def test_constructor_arguments_of_the_wrong_kind(make, argument):
    for value in CONSTRUCTOR[argument]:
        named = "URL" if isinstance(value, str) and argument in ("broker_url", "result_backend") else argument
        with pytest.raises(ValueError, match=named) as bad:
            make(**{"operator_name": "n", "operator_version": "v", argument: value})
        assert isinstance(bad.value, TranshipError)


CALL = [
    ({"input_artifacts": None}, InvalidArgumentsError),
    ({"input_artifacts": {"uri": "a"}}, InvalidArgumentsError),
    ({"input_artifacts": "a"}, InvalidArgumentsError),
    ({"options": None}, InvalidArgumentsError),
    ({"options": [1]}, InvalidArgumentsError),
    ({"timeout": "10"}, InvalidOptionError),
    ({"timeout": float("inf")}, InvalidOptionError),
    ({"timeout": True}, InvalidOptionError),
    ({"cancel_key": 7}, InvalidOptionError),
    ({"persistent_output": "yes"}, InvalidOptionError),
    ({"priority": 0}, InvalidOptionError),
]


@pytest.mark.parametrize(("arguments", "error"), CALL, ids=[str(arguments) for arguments, _ in CALL])
def test_call_arguments_of_the_wrong_kind(side, arguments, error):
    # Nobody is asked: a broker that is not there would be another error.
    client = side.client(broker_url=f"redis://127.0.0.1:{free_port()}/0")
    for method in ("async_call", "sync"):
        with pytest.raises(error, match=next(iter(arguments))):
            side(getattr(client, method)(**{"input_artifacts": [], "options": {}, **arguments}))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("batch_submit", (7,)),
        ("batch_submit", ({"a": 1},)),
        ("batch_collect", (7,)),
        ("batch_collect", (["id"],)),
        ("batch_sync", ("tasks",)),
        ("cancel", (None,)),
        ("cancel", ("",)),
        ("probe", ("soon",)),
        ("ping", ("soon",)),
    ],
)
def test_other_arguments_of_the_wrong_kind(side, method, arguments):
    client = side.client(broker_url=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises((InvalidArgumentsError, InvalidOptionError)):
        side(getattr(client, method)(*arguments))
