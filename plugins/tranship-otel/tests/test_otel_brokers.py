"""One trace over each broker, and over Celery's clients and workers where OpenTelemetry instruments them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

from chaos.fleet import SOURCES, TESTS
from interop.runs import until
from interop.workers import WorkerProcess
from tranship import Client, Task, Worker, named
from tranship.testing.background import BackgroundWorker
from tranship.testing.services import Service

DIAGRAMS = Path(__file__).parents[3] / "docs/diagrams"


@pytest.mark.parametrize("broker", ["redis", "rabbitmq", "nats"])
def test_one_trace_over_the_broker(
    recorder, make_task: Callable[..., Task[..., Any]], tranship_service: Callable[[str], Service], broker: str
) -> None:
    def first(value: int) -> int:
        return value + 1

    def second(value: int) -> int:
        return value * 10

    one, two, url = make_task(first), make_task(second), tranship_service(broker).url
    results = {"result_url": "memory://otel-results"} if broker == "rabbitmq" else {}
    middleware = [recorder.middleware()]
    worker = Worker(url, tasks=[one, two], middleware=middleware, **results)
    with BackgroundWorker(worker), Client(url, middleware=middleware, **results) as client:
        with recorder.tracer.start_as_current_span("request"):
            handle = client.submit(one, 1)
            workflow = client.submit(one.call(1).then(two))
        assert (handle.result(timeout=20), workflow.result(timeout=20)) == (2, 20)
    sent = {span.context.span_id for span in recorder.spans("send")}
    processed = recorder.spans("process")
    assert {span.context.trace_id for span in recorder.spans()} == {recorder.only("request").context.trace_id}
    assert {span.parent.span_id for span in processed} == sent
    assert sorted(span.name.split()[-1] for span in processed) == [one.name, one.name, two.name]


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    """The script that draws a trace."""
    spec = importlib.util.spec_from_file_location("trace_picture", DIAGRAMS / "trace.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


WAY = [
    ("shop", "internal", "GET /thumbnail", None, []),
    ("shop", "producer", "send photos.resize", "GET /thumbnail", []),
    ("worker", "consumer", "process photos.resize", "send photos.resize", ["send photos.resize"]),
    ("worker", "internal", "download", "process photos.resize", []),
    ("worker", "client", "settle photos.resize", "process photos.resize", []),
]
"""Service, kind, name, parent and links of each span, in the order of their begin."""


@pytest.mark.parametrize("broker", ["redis", "rabbitmq", "nats"])
def test_the_way_of_a_task_over_each_broker_is_the_one_that_is_drawn(
    picture: ModuleType, tranship_service: Callable[[str], Service], broker: str
) -> None:
    for spans in (picture.recorded(tranship_service(broker).url, runs=1), picture.read()[broker]):
        assert [(one.service, one.kind, one.name, one.parent, one.links) for one in spans] == WAY
        assert len({one.trace for one in spans}) == 1
        assert all(one.begin <= one.end for one in spans)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_of_traces_is_what_was_recorded(picture: ModuleType, theme: str) -> None:
    kept = (DIAGRAMS / f"traces.{theme}.svg").read_text("utf-8")
    checksum = hashlib.sha256((DIAGRAMS / "traces.json").read_bytes()).hexdigest()
    assert picture.drawn(picture.read(), theme, checksum) == kept, "python docs/diagrams/trace.py"


def test_celerys_worker_and_client_are_part_of_the_trace(
    recorder,
    make_task: Callable[..., Task[..., Any]],
    tranship_service: Callable[[str], Service],
    queue: str,
    tmp_path: Path,
) -> None:
    def ours(value: int) -> int:
        return value + 1

    handler, url, log = make_task(ours), tranship_service("redis").url, tmp_path / "spans"
    told = {"url": url, "ours": queue, "theirs": f"{queue}-theirs", "task": handler.name, "spans": str(log)}
    middleware = [recorder.middleware()]
    with (
        BackgroundWorker(Worker(url, tasks=[handler], middleware=middleware)),
        TracedCeleryWorker(told, tmp_path),
        Client(url, middleware=middleware) as client,
    ):
        outer = client.submit(named("otel.theirs", queue=told["theirs"]), 1).result(timeout=20)
        assert client.handle(outer).result(timeout=20) == 2
        until(lambda: len(log.read_text().splitlines()) == 2, "Celery has told its spans")
    spans = [(one.name, one.context.trace_id, one.context.span_id, one.parent) for one in recorder.spans()]
    found = {name: (trace, own, parent.span_id if parent else 0) for name, trace, own, parent in spans}
    for line in log.read_text().splitlines():
        name, *ids = json.loads(line)
        found[name] = tuple(ids)
    names = ["send otel.theirs", "run/otel.theirs", f"apply_async/{handler.name}", f"process {handler.name}"]
    way = [found[name] for name in names]
    assert [parent for _, _, parent in way[1:]] == [own for _, own, _ in way[:-1]]
    assert len({trace for trace, _, _ in way}) == 1


class TracedCeleryWorker(WorkerProcess):
    """``celery worker`` with OpenTelemetry's instrumentation of Celery."""

    def __init__(self, told: dict[str, str], folder: Path) -> None:
        command = [sys.executable, "-m", "celery", "-A", "otel_celery_app", "worker", "-l", "INFO", "-P", "solo"]
        command += ["-Q", told["theirs"], "-n", "otel@celery", "--without-mingle", "--without-gossip"]
        path = os.pathsep.join(map(str, (Path(__file__).parent, TESTS, SOURCES)))
        super().__init__(command, folder, "celery", {"PYTHONPATH": path, "OTEL_TEST": json.dumps(told)})

    def __enter__(self) -> Self:
        self.start("otel@celery ready.")
        return self

    def leave(self) -> None:
        # Stopping would take another second.
        self.kill()
