"""Counts and durations by queue, task and outcome."""

from __future__ import annotations

from opentelemetry.metrics import Meter
from opentelemetry.util.types import Attributes

from tranship_otel import _names as names

__all__ = ["Instruments"]


class Instruments:
    """Of one meter."""

    def __init__(self, meter: Meter) -> None:
        self._sent = meter.create_counter(
            names.SENT, unit="{message}", description="Number of messages producer attempted to send to the broker."
        )
        self._consumed = meter.create_counter(
            names.CONSUMED, unit="{message}", description="Number of messages that were delivered to the application."
        )
        self._sending = meter.create_histogram(
            names.OPERATION_DURATION,
            unit="s",
            description="Duration of messaging operation initiated by a producer or consumer client.",
            explicit_bucket_boundaries_advisory=names.SECONDS,
        )
        self._processing = meter.create_histogram(
            names.PROCESS_DURATION,
            unit="s",
            description="Duration of processing operation.",
            explicit_bucket_boundaries_advisory=names.SECONDS,
        )

    def sent(self, attributes: Attributes) -> None:
        """Count a message that was handed to the broker, or should have been."""
        self._sent.add(1, attributes)

    def sending_took(self, seconds: float, attributes: Attributes) -> None:
        """Note how long one hand-over took, of one message or of a batch."""
        self._sending.record(seconds, attributes)

    def ended(self, seconds: float | None, attributes: Attributes) -> None:
        """Count a delivery that ended, and how long its handler ran; None: it did not."""
        self._consumed.add(1, attributes)
        if seconds is not None:
            self._processing.record(seconds, attributes)
