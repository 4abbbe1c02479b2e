"""Trace context in the headers of tasks: ``traceparent``, ``tracestate`` and ``baggage``, as Celery's has them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter

__all__ = ["creation_context", "received", "with_context"]

log = logging.getLogger("tranship_otel")


class _Texts(Getter[Mapping[str, Any]]):
    """Reads headers, which may hold anything; only texts are of any meaning here."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return list(carrier)


_TEXTS = _Texts()


def received(headers: Mapping[str, Any]) -> Context:
    """Return the context that a task came with: an empty one where there is none, or none that can be understood."""
    if not headers:
        return Context()
    try:
        return propagate.extract(headers, context=Context(), getter=_TEXTS)
    except Exception:
        # A propagator of somebody's own, at what a stranger has written.
        log.debug("a task's trace context cannot be understood, and is ignored", exc_info=True)
        return Context()


def creation_context(headers: Mapping[str, Any]) -> trace.SpanContext | None:
    """Return where a task says that it was created; None: it does not."""
    found = trace.get_current_span(received(headers)).get_span_context() if headers else None
    return found if found is not None and found.is_valid else None


def with_context(headers: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """Return ``headers`` with ``context`` among them."""
    carrier: dict[str, Any] = dict(headers)
    propagate.inject(carrier, context=context)
    return carrier
