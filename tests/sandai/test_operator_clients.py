"""Both ends without Celery: every method of our clients, against an operator on a tranship worker, on every backend."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from operators import BACKENDS, Seen, broker_url, clipper, echo, until
from sides import KINDS, Side, side_of

from tranship.compat.sandai import InvalidPriorityError, TaskCancelledError, TaskDeadlineExceededError
from tranship.compat.sandai.exceptions import TaskExecutionError, TaskTimeoutError
from tranship.testing.background import BackgroundWorker

VIDEO = {"uri": "file:///tmp/in.mp4", "slot": "video", "meta": {"fps": 24}}
CLIP = {**VIDEO, "slot": "clip"}
_numbers = itertools.count()


@pytest.fixture(scope="module", params=[*BACKENDS, "rabbitmq+redis", "redis+sqlite"])
def places(request, tmp_path_factory, tranship_service) -> tuple[str, str | None]:
    """The broker, and where results are kept; None: at the broker."""
    name = f"clients{next(_numbers)}"
    broker, _, results = request.param.partition("+")
    folder = tmp_path_factory.mktemp(name)
    where = [broker_url(one, tranship_service, folder, name) if one else None for one in (broker, results)]
    return where[0], where[1]


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module", autouse=True)
def _operators(places, seen) -> Iterator[None]:
    url, results = places
    first = clipper(url, result_backend=results)
    second = echo(url, seen, result_backend=results, concurrency=16)
    with BackgroundWorker(first.worker()), BackgroundWorker(second.worker()):
        yield


@pytest.fixture(params=KINDS)
def side(request, places) -> Iterator[Side]:
    url, results = places
    with side_of(request.param, broker_url=url, result_backend=results) as side:
        yield side


@pytest.fixture
def clips(side):
    return side.client("video-clipper", "v1")


@pytest.fixture
def echoes(side):
    return side.client("echo", "v1")


def test_sync(side, clips):
    assert side(clips.sync([VIDEO], {"clip_duration": 10})) == ([CLIP], {"clips": 1, "longest": 10.0})


def test_async_call(side, clips):
    handle = side(clips.async_call([VIDEO], {"clip_duration": 10}))
    assert side(handle.get(timeout=20)) == {
        "status": "success",
        "artifacts": [CLIP],
        "results": {"clips": 1, "longest": 10.0},
    }
    assert (side(handle.ready()), side.state(handle)) == (True, "SUCCESS")
    side(handle.forget())


def test_desc(side, clips):
    described = side.desc(clips)
    assert described["doc"] == "Cut videos into clips."
    assert described["options_schema"]["required"] == ["clip_duration"]


def test_probe_and_ping(side, echoes, seen):
    before = len(seen.calls)
    probed = side(echoes.probe())
    assert (probed.submit_ok, probed.retrieval_ok, probed.response_ok, probed.error) == (True, True, True, None)
    assert side(echoes.ping()) is True
    assert len(seen.calls) == before, "no work was done"


def test_batches(side, clips):
    tasks = [([VIDEO], {"clip_duration": one}) for one in (1, -1, 3)]
    for results in (
        side(clips.batch_sync_detailed(tasks)),
        side(clips.batch_collect(side(clips.batch_submit(tasks)), timeout=20)),
    ):
        assert [one.index for one in results] == [0, 1, 2]
        assert [type(one.error) for one in results] == [type(None), TaskExecutionError, type(None)]
        assert [one.results["longest"] for one in results if not one.error] == [1.0, 3.0]
    assert side(clips.batch_sync(tasks))[2] == ([CLIP], {"clips": 1, "longest": 3.0})
    handles = side(clips.batch_async(tasks))
    assert [side(one.get(timeout=20))["status"] for one in handles] == ["success", "error", "success"]


def test_a_batch_ends_with_its_budget(side, echoes):
    tasks = [([], {"sleep": 0}), ([], {"sleep": 3})]
    done, late = side(echoes.batch_sync_detailed(tasks, timeout=1.5))
    assert done.error is None
    assert isinstance(late.error, TaskTimeoutError)


def test_errors(side, clips):
    with pytest.raises(TaskExecutionError, match="no key frames") as unusable:
        side(clips.sync([], {"clip_duration": 1, "name": "unusable"}))
    assert unusable.value.error_details == {"frame": 7}
    with pytest.raises(TaskExecutionError, match="timed out in the codec"):
        side(clips.sync([], {"clip_duration": 1, "name": "crash"}))
    with pytest.raises(TaskExecutionError, match="clip_duration"):
        side(clips.sync([], {"clip_duration": "long"}))
    with pytest.raises(InvalidPriorityError):
        side(clips.sync([], {"clip_duration": 1}, priority="urgent"))


def test_past_its_deadline_nothing_is_begun(side, echoes, seen):
    before = len(seen.calls)
    handle = side(echoes.async_call([], {}, timeout=-5))
    envelope = side(handle.get(timeout=20))
    assert envelope["error"]["error_type"] == TaskDeadlineExceededError.__name__
    assert len(seen.calls) == before


def test_cancel_of_what_waits_and_of_what_runs(side, echoes, seen):
    waiting, running = (f"job-{next(_numbers)}-{side.kind}" for _ in range(2))
    side(echoes.cancel(waiting))
    with pytest.raises(TaskCancelledError):
        side(echoes.sync([], {}, cancel_key=waiting))
    handle = side(echoes.async_call([], {"sleep": 60, "label": running}, cancel_key=running))
    until(lambda: running in seen.begun, "it runs")
    side(echoes.cancel(running))
    assert side(handle.get(timeout=20))["error"]["error_type"] == "TaskCancelledError"


def test_controls_reach_the_handler(side, echoes, seen):
    label = f"kept-{next(_numbers)}-{side.kind}"
    side(echoes.sync([VIDEO], {"label": label}, persistent_output=True, cancel_key="job-kept", timeout=60))
    (call,) = (one for one in seen.calls if one.options.get("label") == label)
    assert (call.persistent_output, call.cancel_key, call.artifacts) == (True, "job-kept", [VIDEO])
    assert 30 < call.remaining() <= 60


def test_each_priority_has_its_queue(side, echoes):
    for priority, queue in echoes.get_queue_info().items():
        assert side(echoes.sync([], {}, priority=priority))[1]["queue"] == queue


def test_a_thousand_at_once(side, echoes):
    tasks = [([], {"n": n}) for n in range(1000)]
    results = side(echoes.batch_sync_detailed(tasks, timeout=50))
    assert [one.results and one.results["options"]["n"] for one in results] == list(range(1000))
