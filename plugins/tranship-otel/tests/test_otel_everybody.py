"""The plugin, as it is installed: for everybody where an SDK is configured, for nobody where none is."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tranship import Client, Worker
from tranship.middleware import Middleware
from tranship.testing.suites.plugins import MiddlewareSuite

TASKS = """
from tranship import Client, Worker, task

@task
def echo(value: int) -> int:
    return value

def round_trip():
    with Client("memory://everybody") as client:
        handle = client.submit(echo, 7)
        Worker("memory://everybody", tasks=[echo]).run_until_idle()
        return handle.result(timeout=20)
"""


def run(script: str, **environ: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", TASKS + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", **environ},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_an_sdk_there_is_nothing_around_anything() -> None:
    said = run(
        """
        import sys
        from tranship._defaults import default_registry
        from tranship.connections import process_table
        from tranship.middleware import Middleware
        print(round_trip())
        print([type(one) is Middleware for one in default_registry(process_table()).middleware()])
        print([name for name in sys.modules if name.startswith("opentelemetry")])
        """
    )
    assert said == ["7", "[True]", "[]"]


def test_with_the_api_alone_it_is_the_same() -> None:
    said = run(
        """
        from opentelemetry import metrics, trace
        from tranship_otel._everybody import for_everybody
        print(round_trip(), type(for_everybody()).__name__)
        """
    )
    assert said == ["7 Middleware"]


CONFIGURED = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
print(round_trip(), *(one.name.split()[0] for one in spans.get_finished_spans()))
"""


def test_with_an_sdk_everybody_is_traced() -> None:
    assert run(CONFIGURED) == ["7 send process settle"]


def test_it_can_be_left_out() -> None:
    assert run(CONFIGURED, TRANSHIP_BLOCK_PLUGINS="otel") == ["7"]


def test_a_disabled_sdk_harms_nothing() -> None:
    assert run(CONFIGURED, OTEL_SDK_DISABLED="true") == ["7"]


def test_counting_alone_is_enough() -> None:
    said = run(
        """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
        print(round_trip())
        (found,) = reader.get_metrics_data().resource_metrics
        print(*sorted(one.name for scope in found.scope_metrics for one in scope.metrics))
        """
    )
    assert said[1].split() == [
        "messaging.client.consumed.messages",
        "messaging.client.operation.duration",
        "messaging.client.sent.messages",
        "messaging.process.duration",
    ]


def test_a_process_of_an_isolated_task_can_take_the_trace_up(recorder, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "otel_isolated.py").write_text(
        textwrap.dedent(
            """
            from opentelemetry import propagate, trace
            from tranship import current, task

            @task(isolation="process")
            def look() -> str:
                began = propagate.extract(current().headers)
                return format(trace.get_current_span(began).get_span_context().trace_id, "032x")
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    look = importlib.import_module("otel_isolated").look
    with Client("memory://otel-isolated", middleware=[recorder.middleware()]) as client:
        handle = client.submit(look)
        Worker("memory://otel-isolated", tasks=[look], middleware=[recorder.middleware()]).run_until_idle()
        assert handle.result(timeout=20) == format(recorder.only("process").context.trace_id, "032x")


class TestMiddleware(MiddlewareSuite):
    @pytest.fixture
    def middleware(self, recorder) -> Middleware:
        return recorder.middleware()
