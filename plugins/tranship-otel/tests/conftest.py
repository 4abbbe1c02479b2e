"""What every test of this plugin may use: a real SDK that keeps what it is given, and tasks on a queue of their own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tranship import Task, task
from tranship_otel import OpenTelemetry


class Recorder:
    """Providers of a test's own, and what came of them."""

    def __init__(self) -> None:
        self._spans, self._metrics = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider(metric_readers=[self._metrics])
        self.tracer = self.tracers.get_tracer("test")

    def middleware(self) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, operation: str = "") -> list[ReadableSpan]:
        """Those of an operation, such as ``send``, in the order of their ends."""
        return [one for one in self._spans.get_finished_spans() if one.name.split()[0].startswith(operation)]

    def only(self, operation: str) -> ReadableSpan:
        (span,) = self.spans(operation)
        return span

    def points(self, name: str) -> list[Any]:
        """The points of a metric."""
        return [point for one in self._found() if one.name == name for point in one.data.data_points]

    def metric_names(self) -> set[str]:
        return {one.name for one in self._found()}

    def _found(self) -> list[Any]:
        data = self._metrics.get_metrics_data()
        scopes = [scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics]
        return [one for scope in scopes for one in scope.metrics]

    def shutdown(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.shutdown()


@pytest.fixture
def queue() -> str:
    """One that this test has to itself."""
    return f"otel-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def make_task(queue: str) -> Callable[..., Task[..., Any]]:
    """Make a task of a function, on that queue."""

    def make(function: Callable[..., Any], **options: Any) -> Task[..., Any]:
        return task(name=f"otel.{function.__name__}", queue=queue, **options)(function)

    return make


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param == "memory":
        return f"memory://otel-{uuid.uuid4().hex}"
    return f"sqlite:///{tmp_path}/tasks.db"
