"""The client's trace goes on in the handler, where OpenTelemetry is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["in_trace"]


@contextmanager
def in_trace(carrier: Mapping[str, Any], name: str) -> Iterator[None]:
    """Have what happens inside under a span of its own, the client's span its parent.

    Args:
        carrier: what the client sent; empty, as without tracing: nothing happens.
        name: of the span.
    """
    if not carrier or importlib.util.find_spec("opentelemetry") is None:
        yield
        return
    trace: Any = importlib.import_module("opentelemetry.trace")
    propagate: Any = importlib.import_module("opentelemetry.propagate")
    sent = {key: value for key, value in carrier.items() if isinstance(value, str)}
    tracer = trace.get_tracer("tranship.compat.sandai")
    with tracer.start_as_current_span(name, context=propagate.extract(sent), kind=trace.SpanKind.CONSUMER):
        yield
