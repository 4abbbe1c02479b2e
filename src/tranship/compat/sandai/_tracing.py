"""Trace context, where ``SANDAI_OPERATOR_TRACING_ENABLED`` asks for it and OpenTelemetry is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Tracing"]


class Tracing:
    """The spans of one client.

    Args:
        operator: the operator's name.
        on: whether calls are traced at all.
    """

    def __init__(self, operator: str, *, on: bool) -> None:
        self._operator = operator
        self._on = on and importlib.util.find_spec("opentelemetry") is not None

    @contextmanager
    def span(self, task_id: str) -> Iterator[None]:
        """Have what happens inside, the operator's work included, under one span."""
        if not self._on:
            yield
            return
        trace: Any = importlib.import_module("opentelemetry.trace")
        attributes = {"operator.name": self._operator, "task.id": task_id}
        with trace.get_tracer("tranship.compat.sandai").start_as_current_span(
            "operator.client.call", attributes=attributes
        ):
            yield

    def carrier(self) -> dict[str, str]:
        """The active span in the W3C form; empty if there is none."""
        carrier: dict[str, str] = {}
        if self._on:
            propagate: Any = importlib.import_module("opentelemetry.propagate")
            propagate.inject(carrier)
        return carrier
