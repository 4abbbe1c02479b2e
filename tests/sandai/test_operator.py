"""What an operator answers, on every backend, asked by a client of tranship's core that sends what clients send."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from operators import BACKENDS, Seen, broker_url, clipper, echo, thread_echo, until

from tranship import Client, Middleware, Retry, RunCall, TaskHandle
from tranship.compat.sandai import Operator, OperatorCall
from tranship.task import named
from tranship.testing.background import BackgroundWorker

VIDEO = {"uri": "file:///tmp/in.mp4", "slot": "video"}
PATIENCE = 20.0
_numbers = itertools.count()


@pytest.fixture(scope="module", params=BACKENDS)
def url(request, tmp_path_factory, tranship_service) -> str:
    name = f"operator{next(_numbers)}"
    return broker_url(request.param, tranship_service, tmp_path_factory.mktemp(name), name)


@pytest.fixture
def seen() -> Seen:
    return Seen()


Ask = Callable[..., TaskHandle[Any]]


@pytest.fixture
def client(url) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def ask(client) -> Ask:
    """Send what a client sends; return the handle."""

    def send(operator: Operator, priority: str = "normal", **payload: Any) -> TaskHandle[Any]:
        task = named(operator.task_name, queue=operator.queues[priority], serializer="msgpack")
        return client.submit(task, **payload)

    return send


@pytest.fixture
def serve() -> Iterator[Callable[[Operator], Operator]]:
    running: list[BackgroundWorker] = []

    def start(operator: Operator) -> Operator:
        running.append(BackgroundWorker(operator.worker()).start())
        return operator

    yield start
    for one in running:
        one.stop()


def process(options: Any = None, artifacts: Any = (), **more: Any) -> dict[str, Any]:
    """The keyword arguments that ``sync()`` and ``async_call()`` send."""
    given = {"meta": {"persistent-output": False}, "artifacts": list(artifacts), "options": options or {}}
    return {**given, "deadline": time.time() + 3600, **more}


def answer(handle: TaskHandle[Any]) -> Any:
    return handle.result(timeout=PATIENCE)


def error_of(handle: TaskHandle[Any]) -> dict[str, Any]:
    found = answer(handle)
    assert found["status"] == "error", found
    assert found.keys() == {"status", "error"}
    assert found["error"].keys() == {"error_type", "error_message", "error_details"}
    return found["error"]


def test_artifacts_and_results(url, serve, ask):
    operator = serve(clipper(url))
    assert answer(ask(operator, **process({"clip_duration": 10}, [VIDEO]))) == {
        "status": "success",
        "artifacts": [{"uri": "file:///tmp/in.mp4", "slot": "clip"}],
        "results": {"clips": 1, "longest": 10.0},
    }


def test_the_handler_is_given_what_the_client_sent(url, serve, ask, seen):
    operator = serve(echo(url, seen))
    tracing = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    payload = process({"a": 1}, [VIDEO], meta={"persistent-output": True}, cancel_key="job-1", _tracing=tracing)
    handle = ask(operator, **payload, from_a_later_version=True)
    assert answer(handle)["status"] == "success"
    (call,) = seen.calls
    assert (call.id, call.artifacts, call.options) == (handle.id, [VIDEO], {"a": 1})
    assert call.persistent_output
    assert (call.cancel_key, call.tracing) == ("job-1", tracing)
    assert call.deadline == payload["deadline"]
    assert 3500 < call.remaining() <= 3600


def test_what_the_client_left_out_is_empty(url, serve, ask, seen):
    operator = serve(echo(url, seen))
    assert answer(ask(operator))["status"] == "success"
    (call,) = seen.calls
    assert (call.artifacts, call.options, call.meta, call.tracing) == ([], {}, {}, {})
    assert (call.deadline, call.cancel_key, call.remaining(), call.persistent_output) == (None, None, None, False)


@pytest.mark.parametrize("make", [echo, thread_echo])
def test_past_the_deadline_nothing_is_begun(url, serve, ask, seen, make):
    operator = serve(make(url, seen))
    late = time.time() - 5
    error = error_of(ask(operator, **process(deadline=late)))
    assert error["error_type"] == "TaskDeadlineExceededError"
    assert error["error_details"]["deadline"] == late
    assert late < error["error_details"]["current_time"] <= time.time()
    assert not seen.calls


def test_what_has_begun_goes_on_past_its_deadline(url, serve, ask, seen):
    operator = serve(echo(url, seen))
    assert answer(ask(operator, **process({"sleep": 1.2}, deadline=time.time() + 1)))["status"] == "success"


@pytest.mark.parametrize("make", [echo, thread_echo])
def test_a_cancelled_key_is_skipped(url, serve, ask, client, seen, make):
    operator = serve(make(url, seen))
    client.cancel("job-off")
    error = error_of(ask(operator, **process(cancel_key="job-off")))
    assert (error["error_type"], error["error_details"]) == ("TaskCancelledError", {"cancel_key": "job-off"})
    assert not seen.calls
    assert answer(ask(operator, **process(cancel_key="job-on")))["status"] == "success"


@pytest.mark.parametrize("make", [echo, thread_echo])
def test_a_cancel_reaches_what_runs(url, serve, ask, client, seen, make):
    key = f"job-{make.__name__}"
    operator = serve(make(url, seen))
    handle = ask(operator, **process({"sleep": 60}, cancel_key=key))
    until(lambda: seen.calls, "it runs")
    client.cancel(key)
    error = error_of(handle)
    assert (error["error_type"], error["error_details"]) == ("TaskCancelledError", {"cancel_key": key})


def test_a_cancel_by_id_is_told_in_the_same_words(url, serve, ask, client, seen):
    operator = serve(echo(url, seen))
    handle = ask(operator, **process({"sleep": 60}))
    until(lambda: seen.calls, "it runs")
    handle.cancel()
    assert error_of(handle)["error_type"] == "TaskCancelledError"


def test_desc_does_no_work(url, serve, ask):
    operator = serve(clipper(url))
    described = answer(ask(operator, "high", task_type="desc"))
    assert described == operator.describe()
    assert (described["status"], described["doc"]) == ("success", "Cut videos into clips.")
    assert described["options_schema"]["required"] == ["clip_duration"]
    assert described["options_schema"]["properties"]["clip_duration"]["exclusiveMinimum"] == 0
    assert set(described["results_schema"]["properties"]) == {"clips", "longest"}


def test_a_probe_does_no_work(url, serve, ask, seen):
    operator = serve(echo(url, seen))
    assert answer(ask(operator, "low", **process({"test": True}))) == {
        "status": "success",
        "artifacts": [],
        "results": {},
    }
    assert not seen.calls


def test_an_operator_may_answer_probes_itself(url, serve, ask, seen):
    operator = serve(echo(url, seen, probes=False))
    assert answer(ask(operator, "low", **process({"test": True})))["results"]["options"] == {"test": True}


def test_an_exception_is_an_error_envelope(url, serve, ask):
    operator = serve(clipper(url))
    error = error_of(ask(operator, **process({"clip_duration": 1, "name": "crash"})))
    assert (error["error_type"], error["error_message"]) == ("RuntimeError", "it timed out in the codec")
    assert error["error_details"]["exception_type"] == "builtins.RuntimeError"
    traceback = error["error_details"]["traceback"]
    assert "raise RuntimeError" in traceback
    files = {Path(name).name for name in re.findall(r'File "([^"]+)"', traceback)}
    assert files == {"operators.py"}, "only the handler's own frames"


def test_an_error_on_purpose_carries_its_details(url, serve, ask):
    operator = serve(clipper(url))
    error = error_of(ask(operator, **process({"clip_duration": 1, "name": "unusable"})))
    assert error == {
        "error_type": "UnusableVideoError",
        "error_message": "no key frames",
        "error_details": {"frame": 7},
    }


def test_options_that_do_not_fit_the_model(url, serve, ask):
    operator = serve(clipper(url))
    error = error_of(ask(operator, **process({"clip_duration": -1, "name": "secret" * 3})))
    assert error["error_type"] == "OptionsError"
    assert "clip_duration" in error["error_message"]
    assert [row["loc"] for row in error["error_details"]["errors"]] == [["clip_duration"]]
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({"artifacts": {"uri": "x"}}, "artifacts"),
        ({"options": [1]}, "options"),
        ({"meta": "persistent"}, "meta"),
        ({"deadline": "tomorrow"}, "deadline"),
        ({"deadline": True}, "deadline"),
        ({"cancel_key": 7}, "cancel_key"),
        ({"task_type": "dance"}, "task_type"),
    ],
    ids=str,
)
def test_a_payload_that_no_client_sends(url, serve, ask, seen, payload, name):
    operator = serve(echo(url, seen))
    error = error_of(ask(operator, **payload))
    assert error["error_type"] == "PayloadError"
    assert repr(name) in error["error_message"]
    assert not seen.calls


def test_a_call_that_takes_too_long(url, serve, ask, seen):
    operator = serve(echo(url, seen, run_timeout=0.2))
    error = error_of(ask(operator, **process({"sleep": 60})))
    assert error["error_type"] == "TaskTimedOut"
    assert "0.2 s" in error["error_message"]


def test_middleware_is_around_a_call(url, serve, ask):
    told: list[Any] = []

    class Listening(Middleware):
        async def run(self, call: RunCall, call_next: Any) -> Any:
            value = await call_next(call)
            told.append(call.kwargs["options"])
            return value

    operator = serve(clipper(url, middleware=[Listening()]))
    assert answer(ask(operator, **process({"clip_duration": 10})))["status"] == "success"
    assert told == [{"clip_duration": 10}]


def test_another_attempt(url, serve, ask):
    operator = Operator("again", "v1", broker_url=url)
    attempts = []

    @operator.process
    def flaky(call: OperatorCall):
        attempts.append(call.id)
        if len(attempts) < 3:
            raise Retry(0.05)
        return {"attempts": len(attempts)}

    serve(operator)
    assert answer(ask(operator, **process()))["results"] == {"attempts": 3}
    assert len(set(attempts)) == 1


RETURNS = [
    pytest.param(lambda: None, {"artifacts": [], "results": {}}, id="None"),
    pytest.param(lambda: {"n": 1}, {"artifacts": [], "results": {"n": 1}}, id="results"),
    pytest.param(lambda: (None, {"n": 1}), {"artifacts": [], "results": {"n": 1}}, id="no-artifacts"),
    pytest.param(lambda: ([VIDEO], None), {"artifacts": [VIDEO], "results": {}}, id="no-results"),
    pytest.param(lambda: ((VIDEO,), {}), {"artifacts": [VIDEO], "results": {}}, id="tuple-of-artifacts"),
]


@pytest.mark.parametrize(("returned", "expected"), RETURNS)
def test_what_a_handler_returns(url, serve, ask, returned, expected):
    operator = Operator("returns", "v1", broker_url=url)
    operator.process(returned)
    serve(operator)
    assert answer(ask(operator, **process())) == {"status": "success", **expected}


MISTAKES = [
    pytest.param(lambda: [1, 2], "ResultsError", id="a-list"),
    pytest.param(lambda: "text", "ResultsError", id="a-text"),
    pytest.param(lambda: ({"uri": "x"}, {}), "ArtifactsError", id="one-artifact"),
    pytest.param(lambda: ([], {}, 3), "ResultsError", id="three"),
    pytest.param(lambda: {"lock": threading.Lock()}, "EncodeError", id="not-data"),
]


@pytest.mark.parametrize(("returned", "error_type"), MISTAKES)
def test_what_a_handler_must_not_return(url, serve, ask, returned, error_type):
    operator = Operator("returns", "v1", broker_url=url)
    operator.process(returned)
    serve(operator)
    assert error_of(ask(operator, **process()))["error_type"] == error_type


def test_results_that_do_not_fit_the_model(url, serve, ask):
    operator = Operator("returns", "v1", broker_url=url, results=dict[str, int])
    operator.process(lambda: {"n": "many"})
    serve(operator)
    error = error_of(ask(operator, **process()))
    assert (error["error_type"], error["error_details"]["errors"][0]["loc"]) == ("ResultsError", ["n"])


def test_the_four_queues_in_order(url, serve, ask, seen):
    """Whatever order they came in: all of one priority before any of the next, the first sent first."""
    operator = echo(url, seen, concurrency=1)
    levels = ["very_low", "low", "normal", "high"]
    blocker = ask(operator, "normal", **process({"label": "blocker", "gate": True}))
    serve(operator)
    until(lambda: seen.begun, "the only slot is taken")
    handles = [ask(operator, level, **process({"label": f"{level} {n}"})) for n in range(3) for level in levels]
    seen.gate.set()
    for handle in [blocker, *handles]:
        assert answer(handle)["status"] == "success"
    assert seen.begun[1:] == [f"{level} {n}" for level in reversed(levels) for n in range(3)]


def test_a_late_urgent_call_overtakes_what_waits(url, serve, ask, seen):
    operator = echo(url, seen, concurrency=2)
    waiting = [ask(operator, "very_low", **process({"label": f"{n}", "gate": True})) for n in range(20)]
    serve(operator)
    until(lambda: len(seen.begun) == 2, "both slots are taken")
    urgent = ask(operator, "high", **process({"label": "urgent"}))
    seen.gate.set()
    for handle in [urgent, *waiting]:
        assert answer(handle)["status"] == "success"
    assert "urgent" in seen.begun[2:4], seen.begun
