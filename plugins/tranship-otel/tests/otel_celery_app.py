"""A Celery application that OpenTelemetry's own instrumentation traces, for a worker in a process of its own.

``OTEL_TEST`` says as JSON where the broker is, which queue its worker and which queue ours reads, what our task is
called, and which file is to hold a line for each span.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

TOLD = json.loads(os.environ["OTEL_TEST"])


def line(span: ReadableSpan) -> str:
    ids = [span.context.trace_id, span.context.span_id, span.parent.span_id if span.parent else 0]
    return json.dumps([span.name, *ids]) + "\n"


out = Path(TOLD["spans"]).open("a", encoding="utf-8")  # noqa: SIM115 - as long as the process
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=out, formatter=line)))
CeleryInstrumentor().instrument(tracer_provider=provider)
app = Celery("otel", broker=TOLD["url"], backend=TOLD["url"])
app.conf.task_default_queue = TOLD["theirs"]


@app.task(name=TOLD["task"])
def namesake(value):
    """Celery's name for what runs on our worker."""


@app.task(name="otel.theirs")
def theirs(value):
    return namesake.apply_async((value,), queue=TOLD["ours"]).id
