"""Traces and metrics of tasks by OpenTelemetry: a middleware that is around every client and worker.

Importing this module imports nothing heavy: it only describes the middleware.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tranship.hookspecs import MiddlewareSpec, hookimpl

if TYPE_CHECKING:
    from tranship_otel._middleware import OpenTelemetry

__all__ = ["OpenTelemetry", "tranship_register_middleware"]


@hookimpl
def tranship_register_middleware(register: Callable[[MiddlewareSpec], None]) -> None:
    """Describe the middleware."""
    register(
        MiddlewareSpec(
            name="otel",
            factory="tranship_otel._everybody:for_everybody",
            summary="traces and metrics, where an OpenTelemetry SDK is configured",
            api_version=(2, 0),
        )
    )


def __getattr__(name: str) -> Any:
    if name == "OpenTelemetry":
        from tranship_otel._middleware import OpenTelemetry

        return OpenTelemetry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
