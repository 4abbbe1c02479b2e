"""The spans of submits: one for a task alone; for a batch one for each task, and one for all that links to them."""

from __future__ import annotations

import time
from dataclasses import replace
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer

from tranship.envelope import Envelope, Receipt
from tranship.middleware import Batch, Next, current_batch
from tranship_otel import _names as names
from tranship_otel._carrier import creation_context, with_context
from tranship_otel._failures import kind_of, record
from tranship_otel._instruments import Instruments

__all__ = ["Sending"]

Attributes = dict[str, str | int]


class Sending:
    """What is around every submit."""

    def __init__(self, tracer: Tracer, instruments: Instruments) -> None:
        self._tracer = tracer
        self._instruments = instruments
        self._batches: WeakKeyDictionary[Batch, _Together] = WeakKeyDictionary()

    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        """Hand ``envelope`` on with the context of its creation, and count it."""
        batch = current_batch()
        if batch is None:
            return await self._alone(envelope, call_next)
        together = self._batches.get(batch)
        if together is None:
            together = self._batches[batch] = _Together(self._tracer, self._instruments, batch)
        return await self._among(together, envelope, call_next)

    async def _alone(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        given = creation_context(envelope.headers)
        # A context that the caller has put there stays: then the span of sending is not where the task was created.
        kind, links = (SpanKind.PRODUCER, ()) if given is None else (SpanKind.CLIENT, (Link(given),))
        began = time.perf_counter()
        attributes = _attributes("send", envelope)
        with self._tracer.start_as_current_span(
            f"send {attributes[names.TASK]}",
            kind=kind,
            links=links,
            attributes={**attributes, names.MESSAGE_ID: names.readable(envelope.id)},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if given is None:
                envelope = _created(envelope, trace.set_span_in_context(span))
            try:
                return await self._counted(attributes, envelope, call_next)
            except BaseException as error:
                record(span, error)
                attributes = {**attributes, names.ERROR_TYPE: kind_of(error)}
                raise
            finally:
                self._instruments.sending_took(time.perf_counter() - began, attributes)

    async def _among(self, together: _Together, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        given = creation_context(envelope.headers)
        if given is None:
            about = _attributes("create", envelope)
            span = self._tracer.start_span(
                f"create {about[names.TASK]}",
                kind=SpanKind.PRODUCER,
                attributes={**about, names.MESSAGE_ID: names.readable(envelope.id)},
            )
            envelope = _created(envelope, trace.set_span_in_context(span))
            span.end()
            given = span.get_span_context()
        together.add(envelope, given)
        try:
            return await self._counted(_attributes("send", envelope), envelope, call_next)
        except BaseException as error:
            together.failed(error)
            raise

    async def _counted(self, attributes: Attributes, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        try:
            receipt = await call_next(envelope)
        except BaseException as error:
            self._instruments.sent({**attributes, names.ERROR_TYPE: kind_of(error)})
            raise
        self._instruments.sent(attributes)
        return receipt


class _Together:
    """The span of a batch: it begins with the first of its tasks, and ends when the broker has answered for all."""

    def __init__(self, tracer: Tracer, instruments: Instruments, batch: Batch) -> None:
        self._instruments = instruments
        self._queues: set[str] = set()
        self._tasks: set[str] = set()
        self._error: BaseException | None = None
        self._began = time.perf_counter()
        self._attributes: Attributes = {**names.operation("send"), names.BATCH_COUNT: batch.size}
        self._span = tracer.start_span("send", kind=SpanKind.CLIENT, attributes=self._attributes)
        batch.at_end(self._end)

    def add(self, envelope: Envelope, created: trace.SpanContext) -> None:
        """Note one of its tasks."""
        self._queues.add(names.readable(envelope.queue))
        self._tasks.add(names.readable(envelope.task))
        if created.is_valid:
            self._span.add_link(created, {names.MESSAGE_ID: names.readable(envelope.id)})

    def failed(self, error: BaseException) -> None:
        """Note that one of them was not submitted."""
        self._error = self._error or error

    def _end(self) -> None:
        attributes: Attributes = {**names.operation("send")}
        # Of several there is no one name.
        for name, found in ((names.DESTINATION, self._queues), (names.TASK, self._tasks)):
            if len(found) == 1:
                (attributes[name],) = found
        self._span.set_attributes(attributes)
        if names.TASK in attributes:
            self._span.update_name(f"send {attributes[names.TASK]}")
        if self._error is not None:
            record(self._span, self._error)
            attributes[names.ERROR_TYPE] = kind_of(self._error)
        self._span.end()
        self._instruments.sending_took(time.perf_counter() - self._began, attributes)


def _attributes(operation: str, envelope: Envelope) -> Attributes:
    return {
        **names.operation(operation),
        names.DESTINATION: names.readable(envelope.queue),
        names.TASK: names.readable(envelope.task),
    }


def _created(envelope: Envelope, context: Context) -> Envelope:
    headers = with_context(envelope.headers, context)
    return envelope if headers == envelope.headers else replace(envelope, headers=headers)
