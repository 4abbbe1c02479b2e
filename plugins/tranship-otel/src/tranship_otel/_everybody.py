"""The middleware that every client and worker gets: one that does nothing where nobody has configured an SDK."""

from __future__ import annotations

import os
import sys
from typing import Final

from tranship.middleware import Middleware

__all__ = ["for_everybody"]

_VARIABLES: Final = ("OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER")
"""Where one of them names a provider, the API makes it when it is first asked."""
_API: Final = ("opentelemetry.trace", "opentelemetry.metrics")
"""Providers of these modules stand in for one that nobody has configured."""


def for_everybody() -> Middleware:
    """Return the middleware of this process: without a configured SDK one that overrides no verb, and costs nothing."""
    if not _is_configured():
        return Middleware()
    from tranship_otel._middleware import OpenTelemetry

    return OpenTelemetry()


def _is_configured() -> bool:
    # Who configures an SDK has imported the API: a process that has not is spared that.
    loaded = any(name in sys.modules for name in _API)
    if not loaded and not any(os.environ.get(name) for name in _VARIABLES):
        return False
    from opentelemetry import metrics, trace

    return any(
        not type(provider).__module__.startswith(_API)
        for provider in (trace.get_tracer_provider(), metrics.get_meter_provider())
    )
