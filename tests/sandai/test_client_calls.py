"""Every method of both clients against an operator on plain Celery, as it is in the field."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sides import KINDS, VIDEO, Side, side_of

from interop.runs import read, until
from tranship.compat.sandai import (
    BatchTaskResult,
    HealthCheckResult,
    InvalidPriorityError,
    TaskCancelledError,
    TaskDeadlineExceededError,
    TaskExecutionError,
    TaskTimeoutError,
)
from tranship.errors import EncodeError, InvalidArgumentsError

pytestmark = pytest.mark.usefixtures("field_operator", "no_links_left")
QUEUES = [f"{one}.video-clipper.v1" for one in ("high", "normal", "low", "very_low")]


@pytest.fixture(params=KINDS)
def side(request, field_url) -> Iterator[Side]:
    with side_of(request.param, broker_url=field_url, timeout=20) as side:
        yield side


@pytest.fixture
def client(side):
    return side.client()


def keys(redis) -> set[bytes]:
    return set(redis.keys("celery-task-meta-*"))


def test_sync_returns_artifacts_and_results(side, client):
    artifacts, results = side(client.sync(input_artifacts=[VIDEO], options={"clip_duration": 10}))
    assert artifacts == [VIDEO]
    assert results["payload"]["options"] == {"clip_duration": 10}


def test_the_payload_is_the_documented_one(side, client):
    begun = time.time()
    _, results = side(
        client.sync([VIDEO], {"n": 1}, "high", timeout=15, cancel_key="never set", persistent_output=True)
    )
    payload = results["payload"]
    assert list(payload) == ["meta", "artifacts", "options", "deadline", "cancel_key"]
    assert payload["meta"] == {"persistent-output": True}
    assert begun + 15 <= payload["deadline"] <= time.time() + 15
    assert (payload["cancel_key"], results["queue"]) == ("never set", "high.video-clipper.v1")


def test_what_the_client_says_once_holds_for_its_calls(side):
    client = side.client(priority="low", cancel_key="nobody sets it", timeout=18)
    begun = time.time()
    _, results = side(client.sync([], {}))
    assert results["queue"] == "low.video-clipper.v1"
    assert results["payload"]["cancel_key"] == "nobody sets it"
    assert begun + 18 <= results["payload"]["deadline"] <= time.time() + 18
    assert results["payload"]["meta"] == {"persistent-output": False}


def test_each_priority_has_its_queue(side, client):
    assert list(client.get_queue_info().values()) == QUEUES
    seen = [side(client.sync([], {}, one))[1]["queue"] for one in ("high", "normal", "low", "very_low")]
    assert seen == QUEUES


def test_results_are_forgotten_unless_told_otherwise(side, client, field_redis):
    before = keys(field_redis)
    side(client.sync([], {}))
    side(client.batch_sync([([], {})] * 3))
    side(client.probe())
    side.desc(client)
    with pytest.raises(TaskExecutionError):
        side(client.sync([], {"do": "fail"}))
    assert keys(field_redis) == before
    keeping = side.client(auto_forget_result=False)
    _, results = side(keeping.sync([], {}))
    assert f"celery-task-meta-{results['id']}".encode() in keys(field_redis)


def test_async_call_returns_a_handle(side, client, field_redis):
    handle = side(client.async_call([VIDEO], {"seconds": 0.3}))
    assert handle.id == handle.task_id
    assert side.state(handle) in ("PENDING", "STARTED")
    assert side(handle.ready()) is False
    envelope = side(handle.get(timeout=10))
    assert (envelope["status"], envelope["artifacts"]) == ("success", [VIDEO])
    assert side.state(handle) == "SUCCESS"
    assert side(handle.ready()) is True
    assert f"celery-task-meta-{handle.id}".encode() in keys(field_redis)
    side(handle.forget())
    assert f"celery-task-meta-{handle.id}".encode() not in keys(field_redis)


def test_a_handle_waits_by_itself_when_no_timeout_is_given(side, client):
    handle = side(client.async_call([], {"seconds": 0.4}))
    assert side(handle.get())["status"] == "success"


def test_a_handle_stops_waiting_in_time(side, client):
    handle = side(client.async_call([], {"seconds": 0.8}))
    for timeout in (0, 0.1):
        with pytest.raises(TaskTimeoutError) as late:
            side(handle.get(timeout=timeout))
        assert (late.value.task_id, late.value.timeout) == (handle.id, timeout)
    assert side(handle.get(timeout=10))["status"] == "success"
    assert side(handle.get(timeout=0))["status"] == "success"


def test_the_blocking_handle_knows_what_celery_results_know(field_url):
    with side_of("blocking", broker_url=field_url) as side:
        client = side.client()
        good, bad = client.async_call([], {}), client.async_call([], {"do": "crash", "text": "out of paper"})
        assert good.get(10) == good.result
        assert (good.status, good.successful(), good.failed(), str(good)) == ("SUCCESS", True, False, good.id)
        error = bad.get(10, propagate=False)
        assert isinstance(error, TaskExecutionError)
        assert (bad.status, bad.successful(), bad.failed()) == ("FAILURE", False, True)
        assert isinstance(bad.result, TaskExecutionError)
        waiting = client.async_call([], {"seconds": 0.5})
        assert waiting.result is None
        assert waiting.get(10)["status"] == "success"


def test_what_is_revoked_is_not_begun(side, client, field_operator, field_folder):
    # All threads are busy, so that it is still queued when it is revoked.
    busy = [side(client.async_call([], {"seconds": 1.0})) for _ in range(4)]
    handle = side(client.async_call([], {"label": "revoked"}))
    side(handle.revoke())
    with pytest.raises(TaskCancelledError):
        side(handle.get(timeout=15))
    assert side.state(handle) == "REVOKED"
    for one in busy:
        side(one.get(timeout=10))
    assert not [run for run in read(field_folder / "runs") if run.label == "revoked"]


def test_desc_is_asked_for_once(side, client, field_folder):
    described = side.desc(client)
    assert described == {"doc": "video-clipper v1", "options_schema": {"type": "object"}, "results_schema": None}
    asked = len([run for run in read(field_folder / "runs") if run.label == "desc"])
    assert side.desc(client) is described
    assert len([run for run in read(field_folder / "runs") if run.label == "desc"]) == asked


# Batches.


def test_a_batch_keeps_its_order(side, client):
    tasks = [([VIDEO], {"n": n, "seconds": 0.2 if n % 3 == 0 else 0}) for n in range(9)]
    submitted = side(client.batch_submit(tasks))
    assert [one.index for one in submitted] == list(range(9))
    assert all(one.submitted and one.task_id == side.handle_of(one).id and one.error is None for one in submitted)
    found = side(client.batch_collect(submitted, timeout=15))
    assert [one.task_id for one in found] == [one.task_id for one in submitted]
    assert [one.results["payload"]["options"]["n"] for one in found] == list(range(9))
    assert all(one.success and one.artifacts == [VIDEO] for one in found)
    # A batch has one deadline.
    assert len({one.results["payload"]["deadline"] for one in found}) == 1


def test_a_batch_says_what_became_of_each(side, client):
    tasks = [
        ([], {}),
        ([], {"do": "fail", "text": "no good", "details": {"line": 3}}),
        ([], {"do": "crash", "text": "timed out"}),
        "not a pair",
        ([], {"do": "raw", "value": 7}),
        ([], {"what": object()}),
        ("no list", {}),
        ([], {"seconds": 2.5}),
    ]
    begun = time.monotonic()
    found = side(client.batch_sync_detailed(tasks, timeout=2))
    assert 1.9 < time.monotonic() - begun < 4
    kinds = [type(one.error).__name__ for one in found]
    assert kinds == [
        "NoneType",
        "TaskExecutionError",
        "TaskExecutionError",
        "InvalidArgumentsError",
        "InvalidResultFormatError",
        "EncodeError",
        "InvalidArgumentsError",
        "TaskTimeoutError",
    ]
    assert [one.submitted for one in found] == [True, True, True, False, True, False, False, True]
    assert [one.index for one in found] == list(range(8))
    assert found[1].error.error_details == {"line": 3}
    assert found[7].error.timeout == 2
    assert [isinstance(one, BatchTaskResult) and one.to_legacy_tuple() for one in found[1:]] == [([], {})] * 7


def test_a_batch_that_is_submitted_twice_in_one(side, client):
    (submitted,) = side(client.batch_submit([([], {"n": 1})]))
    first, second = side(client.batch_collect([submitted, submitted], timeout=10))
    assert first == second
    assert first.success


def test_the_budget_is_for_the_whole_batch(side, client):
    begun = time.monotonic()
    # Four at once: one after the other waited for by itself, all would end.
    found = side(client.batch_sync_detailed([([], {"seconds": 0.7})] * 12, timeout=1.4))
    assert time.monotonic() - begun < 2.5
    ended = [one.success for one in found]
    assert 1 <= sum(ended) < 12
    assert {type(one.error) for one in found if not one.success} == {TaskTimeoutError}


def test_the_older_batch_calls(side, client):
    handles = side(client.batch_async([([], {"n": 1}), ([], object()), ([], {"n": 2})], priority="high"))
    assert handles[1] is None
    assert [side(handles[at].get(timeout=10))["results"]["payload"]["options"]["n"] for at in (0, 2)] == [1, 2]
    found = side(client.batch_sync([([VIDEO], {"n": 1}), ([], {"do": "fail"})], timeout=10))
    assert found[0][0] == [VIDEO]
    assert found[1] == ([], {})


def test_an_empty_batch_needs_nobody(side):
    client = side.client(broker_url="redis://127.0.0.1:1/0")
    assert side(client.batch_sync_detailed([])) == side(client.batch_submit([])) == side(client.batch_collect([])) == []


def test_a_batch_past_its_deadline_is_skipped(side, client):
    submitted = side(client.batch_submit([([], {})] * 2, timeout=-5))
    found = side(client.batch_collect(submitted, timeout=10))
    assert {type(one.error) for one in found} == {TaskDeadlineExceededError}
    error = found[0].error
    assert 4 < error.current_time - error.deadline < 30


# Health, cancels.


def test_a_probe_says_how_each_leg_went(side, client):
    found = side(client.probe())
    assert found == HealthCheckResult(True, True, True, found.task_id)
    assert found.task_id
    nobody = side.client("nobody", "v1")
    found = side(nobody.probe(timeout=0.3))
    assert (found.submit_ok, found.retrieval_ok, found.response_ok) == (True, False, False)
    assert "0.3 s" in (found.error or "")


def test_a_ping_runs_nothing(side, field_redis):
    nobody = side.client("nobody", "v2")
    assert side(nobody.ping()) is True
    assert not field_redis.keys("*nobody.v2*")


def test_a_cancel_key_stops_what_has_not_begun(side, client, field_redis):
    side(client.cancel("job-7"))
    assert field_redis.ttl("job-7") > 80_000
    with pytest.raises(TaskCancelledError) as cancelled:
        side(client.sync([], {}, cancel_key="job-7"))
    assert cancelled.value.cancel_key == "job-7"
    field_redis.delete("job-7")


def test_a_cancel_overwrites_nothing(side, client, field_redis):
    field_redis.rpush("somebody's list", "a")
    side(client.cancel("somebody's list"))
    assert field_redis.lrange("somebody's list", 0, -1) == [b"a"]
    field_redis.delete("somebody's list")


# What cannot be sent.


def test_there_are_four_priorities(side, client):
    for wrong in ("urgent", "HIGH", 3, ["high"]):
        with pytest.raises(InvalidPriorityError) as refused:
            side(client.sync([], {}, wrong))
        assert refused.value.priority == wrong
        assert refused.value.valid_priorities == ["high", "normal", "low", "very_low"]
        with pytest.raises(InvalidPriorityError):
            side(client.batch_submit([([], {})], priority=wrong))


def test_what_cannot_be_written_is_not_sent(side, client):
    with pytest.raises(EncodeError):
        side(client.sync([{"uri": object()}], {}))
    with pytest.raises(InvalidArgumentsError):
        side(client.batch_submit("tasks"))


def test_after_close_nothing_is_sent(side, client, field_redis):
    side(client.ping())
    side.close(client)
    side.close(client)
    with pytest.raises(Exception, match="closed"):
        side(client.async_call([], {}))


def test_nothing_is_left(side, client, field_redis):
    assert side(client.probe()).response_ok
    until(lambda: not field_redis.exists("unacked", "unacked_index"), "everything is acknowledged")
