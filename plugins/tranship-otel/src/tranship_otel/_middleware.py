"""The middleware: what it is around, in one place."""

from __future__ import annotations

from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from tranship.envelope import Envelope, Receipt
from tranship.middleware import BatchRunCall, Middleware, Next, RunCall, SettleCall
from tranship_otel._instruments import Instruments
from tranship_otel._names import SCHEMA_URL
from tranship_otel._sending import Sending
from tranship_otel._working import Working

__all__ = ["OpenTelemetry"]


class OpenTelemetry(Middleware):
    """Traces and counts tasks, for clients and workers. The installed plugin has made one for everybody already; make
    your own for providers that are not the process's, with ``TRANSHIP_BLOCK_PLUGINS=otel``.

    Args:
        tracer_provider: who makes spans; None: that of the process.
        meter_provider: who counts; None: that of the process.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        tracer = trace.get_tracer("tranship", tracer_provider=tracer_provider, schema_url=SCHEMA_URL)
        instruments = Instruments(metrics.get_meter("tranship", meter_provider=meter_provider, schema_url=SCHEMA_URL))
        self._sending = Sending(tracer, instruments)
        self._working = Working(tracer, instruments)

    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        """Around handing one task to the broker."""
        return await self._sending.submit(envelope, call_next)

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        """Around one call of a handler."""
        return await self._working.run(call, call_next)

    async def run_batch(self, call: BatchRunCall, call_next: Next[BatchRunCall, Any]) -> Any:
        """Around one call of a handler that takes many calls at once."""
        return await self._working.run_batch(call, call_next)

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        """Around the end of one delivery."""
        await self._working.settle(call, call_next)
