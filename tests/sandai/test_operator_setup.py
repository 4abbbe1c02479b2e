"""Setting up an operator: what can be a handler, where it works, how it is run; and what goes wrong."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from operators import Seen, clipper, echo, thread_echo, until
from pydantic import BaseModel

from tranship import Client
from tranship.cli._load import load_work
from tranship.compat.sandai import Operator, OperatorCall
from tranship.errors import ConfigurationError, InvalidOptionError, InvalidURLError
from tranship.testing.background import BackgroundWorker


def operator(**options: Any) -> Operator:
    return Operator("video-clipper", "v1", **options)


def test_names_are_those_of_the_wire():
    made = operator()
    assert made.task_name == "sandai_operator.video-clipper.v1.process_task"
    assert list(made.queues.items()) == [
        ("high", "high.video-clipper.v1"),
        ("normal", "normal.video-clipper.v1"),
        ("low", "low.video-clipper.v1"),
        ("very_low", "very_low.video-clipper.v1"),
    ]


def test_the_handler_stays_a_function():
    made = operator()

    @made.process
    def double(options: dict[str, int]) -> dict[str, int]:
        return {"n": 2 * options["n"]}

    assert double({"n": 2}) == {"n": 4}


class Duration(BaseModel):
    seconds: float


@dataclass
class Size:
    width: int


def typed(options: Duration) -> Size:
    """Typed, without artifacts."""
    return Size(width=int(options.seconds))


def pair(options: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    return [], dict(options)


def bare(options, artifacts):
    return artifacts, options


def only_doc() -> None:
    """Nothing is asked, nothing is promised."""


@pytest.mark.parametrize(
    ("handler", "doc", "options", "results"),
    [
        pytest.param(typed, "Typed, without artifacts.", {"seconds"}, {"width"}, id="model-and-dataclass"),
        pytest.param(pair, None, {"type": "object"}, {"type": "object"}, id="maps"),
        pytest.param(bare, None, None, None, id="no-annotations"),
        pytest.param(only_doc, "Nothing is asked, nothing is promised.", None, None, id="no-parameters"),
    ],
)
def test_a_description_comes_from_the_annotations(handler, doc, options, results):
    made = operator()
    made.process(handler)
    described = made.describe()
    assert described["doc"] == doc
    for schema, expected in ((described["options_schema"], options), (described["results_schema"], results)):
        assert (set(schema["properties"]) if isinstance(expected, set) else schema) == expected


def test_what_is_given_goes_before_what_is_annotated():
    made = operator(doc="Given.", options=Duration, results=dict[str, int])
    made.process(bare)
    described = made.describe()
    assert described["doc"] == "Given."
    assert described["options_schema"]["required"] == ["seconds"]
    assert described["results_schema"]["additionalProperties"] == {"type": "integer"}


def test_callable_objects_can_be_handlers():
    class Clipper:
        async def __call__(self, options: Duration) -> dict[str, float]:
            return {"seconds": options.seconds}

    made = operator()
    made.process(Clipper())
    assert made.task.is_async
    assert made.describe()["options_schema"]["required"] == ["seconds"]


def a_generator(options):
    yield options


def wants_more(artifacts, options, database):
    return {}


def positional(options, /):
    return {}


def unreadable(options: Undeclared):  # noqa: F821
    return {}


def triple() -> tuple[int, int, int]:
    return 1, 2, 3


class Unusable:
    """No type that pydantic can make of data."""


def strange(options: Unusable):
    return {}


@pytest.mark.parametrize(
    ("handler", "what"),
    [
        (a_generator, "generator"),
        (wants_more, "database"),
        (positional, "options"),
        (unreadable, "Undeclared"),
        (triple, "expected tuple"),
        (strange, "Unusable"),
        (Duration, "expected a function"),
        ("clip", "'clip'"),
        (None, "None"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_cannot_be_a_handler(handler, what):
    with pytest.raises(ConfigurationError, match=what):
        operator().process(handler)


class Lock(BaseModel, arbitrary_types_allowed=True):
    held: Unusable


def test_models_that_clients_cannot_be_told_of_are_refused_at_start():
    made = operator(broker_url="memory://")

    @made.process
    def lock(options: Lock):
        return {}

    with pytest.raises(ConfigurationError, match="cannot be told of"):
        made.worker()


def test_an_annotation_that_cannot_be_read_may_be_given():
    made = operator(options=Duration, results=dict[str, int])
    made.process(unreadable)
    assert made.describe()["options_schema"]["required"] == ["seconds"]


def test_one_handler_each():
    made = operator()
    made.process(bare)
    with pytest.raises(ConfigurationError, match="has a handler already"):
        made.process(pair)


@pytest.mark.parametrize("use", ["worker", "describe", "run"])
def test_without_a_handler_it_does_nothing(use):
    with pytest.raises(ConfigurationError, match=r"@operator\.process"):
        getattr(operator(), use)()


@pytest.mark.parametrize(
    "options",
    [{"name": ""}, {"version": 1}, {"probes": "yes"}, {"run_timeout": -1}],
    ids=str,
)
def test_values_that_cannot_be_used(options):
    with pytest.raises(InvalidOptionError, match=next(iter(options))):
        Operator(**{"name": "a", "version": "b", **options})


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"max_deliveries": 0}, {"shutdown_timeout": 0}], ids=str)
def test_values_of_the_worker_that_cannot_be_used(options):
    made = operator(broker_url="memory://", **options)
    made.process(bare)
    with pytest.raises(InvalidOptionError):
        made.worker()


def test_a_url_that_cannot_be_read():
    made = operator(broker_url="no url, password secret")
    made.process(bare)
    with pytest.raises(InvalidURLError):
        made.worker()


# Where it works.

HERE, THERE = "sqlite:////tmp/here.db", "sqlite:////tmp/there.db"


def places(monkeypatch, environ: dict[str, str], **options: Any) -> tuple[str, str | None]:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = operator(**options)
    made.process(bare)
    settings = made.worker().settings
    return str(settings.broker_url), settings.result_url and str(settings.result_url)


def test_the_local_redis_is_the_default(monkeypatch):
    url, results = places(monkeypatch, {})
    assert url.partition("?")[0] == "redis://localhost:6379/0"
    assert results is None, "results and settlements are one step"


@pytest.mark.parametrize(
    ("environ", "options", "expected"),
    [
        ({"SANDAI_OPERATOR_CELERY_BROKER_URL": HERE}, {}, (HERE, None)),
        (
            {"SANDAI_OPERATOR_CELERY_BROKER_URL": THERE, "TRANSHIP_OPERATOR_CELERY_BROKER_URL": HERE},
            {},
            (HERE, None),
        ),
        ({"TRANSHIP_OPERATOR_CELERY_BROKER_URL": THERE}, {"broker_url": HERE}, (HERE, None)),
        (
            {"SANDAI_OPERATOR_CELERY_BROKER_URL": HERE, "SANDAI_OPERATOR_CELERY_RESULT_BACKEND": THERE},
            {},
            (HERE, THERE),
        ),
        (
            {"SANDAI_OPERATOR_CELERY_RESULT_BACKEND": HERE},
            {"broker_url": HERE, "result_backend": THERE},
            (HERE, THERE),
        ),
        # Not what other workers and clients of the process go by.
        ({"TRANSHIP_BROKER_URL": THERE, "TRANSHIP_RESULT_URL": THERE}, {"broker_url": HERE}, (HERE, None)),
    ],
)
def test_arguments_before_our_variables_before_theirs(monkeypatch, environ, options, expected):
    assert places(monkeypatch, environ, **options) == expected


def test_the_worker_has_its_settings():
    made = operator(broker_url="memory://", concurrency=7, max_deliveries=2, shutdown_timeout=3, namespace="ns")
    made.process(bare)
    worker = made.worker()
    assert worker.queues == list(made.queues.values())
    assert worker.queues_in_order
    settings = worker.settings
    assert (settings.max_concurrent_tasks, settings.max_deliveries) == (7, 2)
    assert (settings.shutdown_timeout, settings.namespace) == (3, "ns")


def test_a_password_is_not_shown():
    made = operator(broker_url="redis://:hunter2@localhost/0", result_backend="redis://:hunter2@localhost/1")
    made.process(bare)
    assert "hunter2" not in repr(made) + repr(made.worker()) + repr(made.worker().settings)


# How it is run.


def test_serve_ends_when_it_is_cancelled(tmp_path):
    seen = Seen()
    made = echo(f"sqlite:///{tmp_path}/tasks.db", seen)

    async def work() -> str:
        serving = asyncio.create_task(made.serve())
        async with asyncio.timeout(20):
            with Client(f"sqlite:///{tmp_path}/tasks.db") as client:
                handle = client.submit(made.task, options={"label": "x"})
                found = await asyncio.to_thread(handle.result, timeout=15)
            serving.cancel()
            await asyncio.wait({serving})
        return found["status"]

    assert asyncio.run(work()) == "success"
    assert seen.begun == ["x"]


MODULE = """
    from tranship.compat.sandai import Operator

    operator = Operator("doubler", "v1", broker_url="sqlite:///tasks.db")
    empty = Operator("empty", "v1")


    @operator.process
    def double(options: dict) -> dict:
        return {"n": 2 * options["n"]}


    if __name__ == "__main__":
        operator.run()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "doubling.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["-m", "tranship", "worker", "doubling:operator"], id="cli"),
        pytest.param(["doubling.py"], id="run"),
    ],
)
def test_it_serves_as_a_process_until_it_is_told_to_stop(folder, command):
    with subprocess.Popen([sys.executable, *command], cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            with Client(f"sqlite:///{folder}/tasks.db") as client:
                from tranship.task import named

                doubler = named("sandai_operator.doubler.v1.process_task", queue="low.doubler.v1")
                assert client.submit(doubler, options={"n": 4}).result(timeout=20)["results"] == {"n": 8}
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, process.stderr.read()
        finally:
            process.kill()


def test_the_command_line_goes_before_the_operators_own(folder):
    worker = load_work(["doubling:operator"])
    replaced = worker.replace(broker_url="memory://other", max_concurrent_tasks=3, queues=["high.doubler.v1"])
    assert replaced.queues_in_order
    assert (replaced.queues, str(replaced.settings.broker_url)) == (["high.doubler.v1"], "memory://other")


@pytest.mark.parametrize(
    ("target", "what"),
    [("doubling:empty", r"@operator\.process"), ("doubling:Operator", "expected a Worker")],
)
def test_what_the_command_line_cannot_run(folder, target, what):
    with pytest.raises(ConfigurationError, match=what):
        load_work([target])


def test_two_operators_on_one_broker_do_not_meet(tmp_path):
    url = f"sqlite:///{tmp_path}/tasks.db"
    seen = Seen()
    first, second = clipper(url), echo(url, seen)
    with BackgroundWorker(first.worker()), BackgroundWorker(second.worker()), Client(url) as client:
        one = client.submit(first.task, artifacts=[], options={"clip_duration": 1})
        other = client.submit(second.task, artifacts=[], options={"label": "mine"})
        assert one.result(timeout=10)["results"]["longest"] == 1.0
        assert other.result(timeout=10)["status"] == "success"
    until(lambda: seen.begun == ["mine"], "only its own")


def test_a_call_is_plain_data():
    call = OperatorCall.read("7", {"deadline": 1, "meta": None, "cancel_key": ""})
    assert (call.deadline, call.meta, call.cancel_key, call.remaining()) == (1.0, {}, None, 0.0)
    assert not call.is_probe
    assert OperatorCall.read("8", {"options": {"test": True}, "artifacts": []}).is_probe
    assert not OperatorCall.read("9", {"options": {"test": True}, "artifacts": [{}]}).is_probe


def test_without_pydantic_plain_maps_will_do(monkeypatch):
    monkeypatch.setattr("tranship.compat.sandai._operator_shape.find_spec", lambda _name: None)
    made = operator()
    made.process(pair)
    assert made.describe()["options_schema"] == {"type": "object"}
    with pytest.raises(ConfigurationError, match=r"pip install pydantic"):
        operator().process(typed)


@pytest.mark.parametrize("make", [echo, thread_echo])
def test_the_clients_trace_goes_on_in_the_handler(tmp_path, make):
    trace = pytest.importorskip("opentelemetry.trace")
    url = f"sqlite:///{tmp_path}/tasks.db"
    spans: list[int] = []

    class Tracing(Seen):
        def note(self, call: OperatorCall, label: str) -> None:
            spans.append(trace.get_current_span().get_span_context().trace_id)

    made = make(url, Tracing())
    sent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "odd": 7}
    with BackgroundWorker(made.worker()), Client(url) as client:
        for carrier in (sent, {}, None, {"traceparent": "garbage"}):
            assert client.submit(made.task, _tracing=carrier).result(timeout=10)["status"] == "success"
    assert spans == [int("0af7651916cd43dd8448eb211c80319c", 16), 0, 0, 0]
