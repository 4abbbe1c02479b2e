"""The spans of deliveries: ``process`` around a handler, ``settle`` for how the delivery ended."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer

from tranship.envelope import Ending, Envelope
from tranship.errors import Retry
from tranship.middleware import BatchRunCall, Next, RunCall, SettleCall
from tranship.outcomes import Snooze, Suspended
from tranship_otel import _names as names
from tranship_otel._carrier import creation_context, received
from tranship_otel._failures import kind_of, record
from tranship_otel._instruments import Instruments

__all__ = ["Working"]

_NO_FAILURES: Final = (Retry, Snooze, Suspended)
"""What a handler raises to be run again."""
_BAD: Final = frozenset({Ending.FAILED, Ending.DEAD, Ending.EXPIRED})


class _Processed(NamedTuple):
    """The handler's span, and whose it is."""

    task_id: str
    attempt: int
    context: Context


_PROCESSED: Final[ContextVar[_Processed | None]] = ContextVar("tranship_otel_processed", default=None)
"""Of the delivery whose asyncio task this is."""


class Working:
    """What is around handlers and endings."""

    def __init__(self, tracer: Tracer, instruments: Instruments) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._known: set[str] = set()
        self._open: dict[object, trace.Span] = {}
        """The spans of handlers that are being called."""

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        """Call the handler in the context that its task came with."""
        envelope = call.context.envelope
        self._known.add(envelope.task)
        came_with = received(envelope.headers)
        span = self._span("process", envelope, came_with, SpanKind.CONSUMER)
        span.set_attribute(names.DELIVERIES, call.context.delivery_count)
        self._open[call.context] = span
        within = trace.set_span_in_context(span, came_with)
        _PROCESSED.set(_Processed(envelope.id, envelope.attempt, within))
        token = contexts.attach(within)
        try:
            return await call_next(call)
        except BaseException as error:
            _tell(span, error)
            raise
        finally:
            contexts.detach(token)
            del self._open[call.context]
            span.end()

    async def run_batch(self, call: BatchRunCall, call_next: Next[BatchRunCall, Any]) -> Any:
        """Call the handler of a batch in a trace of its own, as it belongs to all of them: they link to each other."""
        name = names.readable(call.task)
        members = [(one, self._open[one]) for one in call.contexts if one in self._open]
        links = [
            Link(
                creation_context(one.envelope.headers) or span.get_span_context(),
                {names.MESSAGE_ID: names.readable(one.id)},
            )
            for one, span in members
        ]
        attributes: dict[str, str | int] = {
            **names.operation("process"),
            names.TASK: name,
            names.BATCH_COUNT: len(call.contexts),
        }
        queues = {names.readable(one.envelope.queue) for one in call.contexts}
        if len(queues) == 1:
            (attributes[names.DESTINATION],) = queues
        with self._tracer.start_as_current_span(
            f"process {name}",
            context=Context(),
            kind=SpanKind.CONSUMER,
            links=links,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as batch:
            for _, span in members:
                span.add_link(batch.get_span_context())
            try:
                return await call_next(call)
            except BaseException as error:
                _tell(batch, error)
                raise

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        """Say how the delivery ends, and count it."""
        envelope, outcome = call.envelope, call.ending.value
        processed = _PROCESSED.get()
        mine = processed is not None and (processed.task_id, processed.attempt) == (envelope.id, envelope.attempt)
        parent = processed.context if mine and processed is not None else received(envelope.headers)
        with trace.use_span(self._span("settle", envelope, parent, SpanKind.CLIENT), end_on_exit=True) as span:
            span.set_attribute(names.OUTCOME, outcome)
            if call.ending in _BAD:
                span.set_status(Status(StatusCode.ERROR, names.readable(call.error.message) if call.error else outcome))
            if call.error is not None:
                span.set_attribute(names.ERROR_TYPE, names.readable(call.error.code))
            self._instruments.ended(call.duration, self._counted(call))
            await call_next(call)

    def _span(self, operation: str, envelope: Envelope, parent: Context, kind: SpanKind) -> trace.Span:
        name = names.readable(envelope.task)
        created = trace.get_current_span(parent).get_span_context()
        return self._tracer.start_span(
            f"{operation} {name}",
            context=parent,
            kind=kind,
            links=(Link(created),) if operation == "process" and created.is_valid else (),
            attributes={
                **names.operation(operation),
                names.DESTINATION: names.readable(envelope.queue),
                names.TASK: name,
                names.MESSAGE_ID: names.readable(envelope.id),
                names.ATTEMPT: envelope.attempt,
            },
        )

    def _counted(self, call: SettleCall) -> dict[str, str]:
        name = call.envelope.task
        attributes = {
            names.SYSTEM: "tranship",
            names.OPERATION_NAME: "process",
            names.DESTINATION: names.readable(call.envelope.queue),
            names.TASK: names.readable(name) if name in self._known else names.OTHER,
            names.OUTCOME: call.ending.value,
        }
        if call.error is not None:
            attributes[names.ERROR_TYPE] = names.readable(call.error.code)
        return attributes


def _tell(span: trace.Span, error: BaseException) -> None:
    if isinstance(error, _NO_FAILURES):
        return
    if isinstance(error, asyncio.CancelledError):
        # Told to stop: the span of the ending says why.
        span.set_attribute(names.ERROR_TYPE, kind_of(error))
        span.set_status(Status(StatusCode.ERROR, "stopped"))
    else:
        record(span, error)
