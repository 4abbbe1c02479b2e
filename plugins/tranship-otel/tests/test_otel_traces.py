"""One trace of a task over client, broker and worker, on the embedded brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tranship import (
    AsyncClient,
    Client,
    Envelope,
    FixedBackoff,
    Middleware,
    Reject,
    RetryPolicy,
    Snooze,
    Task,
    Worker,
    current,
)
from tranship.envelope import Receipt
from tranship.errors import BatchSubmitError, TaskFailed
from tranship.middleware import Next
from tranship.outcomes import Suspended
from tranship_otel._carrier import creation_context
from tranship_otel._names import readable

MakeTask = Callable[..., Task[..., Any]]
STRANGER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def parent(span: Any) -> int | None:
    return None if span.parent is None else span.parent.span_id


def ident(span: Any) -> int:
    return span.context.span_id


class Stranger(Middleware):
    """Sends headers as somebody else would."""

    def __init__(self, **headers: Any) -> None:
        self._headers = headers

    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        return await call_next(replace(envelope, headers={**envelope.headers, **self._headers}))


@pytest.mark.parametrize("how", ["async", "thread"])
def test_one_trace_over_client_broker_and_worker(recorder, make_task: MakeTask, url: str, queue: str, how: str) -> None:
    async def on_the_loop() -> str:
        with recorder.tracer.start_as_current_span("inside"):
            return "done"

    def in_a_thread() -> str:
        with recorder.tracer.start_as_current_span("inside"):
            return "done"

    handler = make_task(on_the_loop if how == "async" else in_a_thread)
    with Client(url, middleware=[recorder.middleware()]) as client:
        with recorder.tracer.start_as_current_span("request"):
            handle = client.submit(handler)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        assert handle.result(timeout=20) == "done"
    request, send, process = recorder.only("request"), recorder.only("send"), recorder.only("process")
    inside, settle = recorder.only("inside"), recorder.only("settle")
    assert {one.context.trace_id for one in recorder.spans()} == {request.context.trace_id}
    assert [parent(one) for one in (send, process, inside, settle)] == [
        ident(request),
        ident(send),
        ident(process),
        ident(process),
    ]
    assert [one.kind for one in (send, process, settle)] == [SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CLIENT]
    assert [link.context.span_id for link in process.links] == [ident(send)]
    assert process.name == f"process {handler.name}"
    assert process.attributes == {
        "messaging.system": "tranship",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
        "messaging.message.id": handle.id,
        "tranship.task.name": handler.name,
        "tranship.task.attempt": 0,
        "tranship.task.delivery_count": 1,
    }
    assert settle.attributes["tranship.task.outcome"] == "succeeded"


async def test_an_async_client_and_a_task_that_submits_another(recorder, make_task: MakeTask, url: str) -> None:
    def second() -> int:
        return 2

    second_task = make_task(second)

    async def first() -> str:
        async with AsyncClient(url, middleware=[recorder.middleware()]) as client:
            return (await client.submit(second_task)).id

    first_task = make_task(first)
    async with AsyncClient(url, middleware=[recorder.middleware()]) as client:
        handle = await client.submit(first_task)
        worker = Worker(url, tasks=[first_task, second_task], middleware=[recorder.middleware()])
        await asyncio.to_thread(worker.run_until_idle)
        inner = client.handle(await handle.result(timeout=20))
        assert await inner.result(timeout=20) == 2
    sent = {one.name.split()[-1]: one for one in recorder.spans("send")}
    processed = {one.name.split()[-1]: one for one in recorder.spans("process")}
    assert parent(sent[second_task.name]) == ident(processed[first_task.name])
    assert parent(processed[second_task.name]) == ident(sent[second_task.name])
    assert parent(sent[first_task.name]) is None


def test_a_batch_is_one_span_that_links_to_each_task(recorder, make_task: MakeTask, url: str, queue: str) -> None:
    def echo(value: int) -> int:
        return value

    handler = make_task(echo)
    with Client(url, middleware=[recorder.middleware()]) as client:
        with recorder.tracer.start_as_current_span("request"):
            handles = client.submit_many(handler.call(number) for number in range(3))
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        assert [one.result(timeout=20) for one in handles] == [0, 1, 2]
    send, creates = recorder.only("send"), recorder.spans("create")
    assert [one.kind for one in (send, *creates)] == [SpanKind.CLIENT, *[SpanKind.PRODUCER] * 3]
    assert {parent(one) for one in (send, *creates)} == {ident(recorder.only("request"))}
    assert [link.context.span_id for link in send.links] == [ident(one) for one in creates]
    assert [link.attributes["messaging.message.id"] for link in send.links] == [one.id for one in handles]
    assert send.attributes["messaging.batch.message_count"] == 3
    assert send.name == f"send {handler.name}"
    assert send.attributes["messaging.destination.name"] == queue
    assert {parent(one) for one in recorder.spans("process")} == {ident(one) for one in creates}


def test_a_handler_of_a_batch_has_a_span_that_links_to_each_task_and_they_to_it(
    recorder, make_task: MakeTask, url: str, queue: str
) -> None:
    """It is the parent of what the handler does, and belongs to none of the traces of its tasks."""

    async def write(rows: list[int]) -> list[int]:
        with recorder.tracer.start_as_current_span("insert"):
            return rows

    handler = make_task(write, batch=3, within=5)
    with Client(url, middleware=[recorder.middleware()]) as client:
        handles = []
        for number in range(3):
            with recorder.tracer.start_as_current_span("request"):
                handles.append(client.submit(handler, number))
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        assert [one.result(timeout=20) for one in handles] == [0, 1, 2]
    sent = {one.attributes["messaging.message.id"]: one for one in recorder.spans("send")}
    (batch,) = (one for one in recorder.spans("process") if "messaging.batch.message_count" in one.attributes)
    members = [one for one in recorder.spans("process") if one is not batch]
    links = {link.attributes["messaging.message.id"]: link.context for link in batch.links}
    assert {key: found.span_id for key, found in links.items()} == {key: ident(one) for key, one in sent.items()}
    assert {found.trace_id for found in links.values()} == {one.context.trace_id for one in sent.values()}
    assert parent(batch) is None
    assert batch.context.trace_id not in {one.context.trace_id for one in sent.values()}
    assert parent(recorder.only("insert")) == ident(batch)
    assert {parent(one) for one in members} == {ident(one) for one in sent.values()}
    for one in members:
        assert [link.context.span_id for link in one.links] == [parent(one), ident(batch)]
    assert (batch.kind, batch.name) == (SpanKind.CONSUMER, f"process {handler.name}")
    assert batch.attributes == {
        "messaging.system": "tranship",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
        "messaging.batch.message_count": 3,
        "tranship.task.name": handler.name,
    }


def test_a_handler_of_a_batch_that_fails_makes_its_span_an_error(recorder, make_task: MakeTask, url: str) -> None:
    """Of clients that nobody traces: then the links lead to the spans of their deliveries."""

    async def write(_rows: list[int]) -> None:
        raise LookupError("no such table")

    handler = make_task(write, batch=2, within=5)
    with Client(url) as client:
        handles = client.submit_many(handler.call(number) for number in range(2))
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        for one in handles:
            with pytest.raises(TaskFailed):
                one.result(timeout=20)
    (batch,) = (one for one in recorder.spans("process") if "messaging.batch.message_count" in one.attributes)
    members = [one for one in recorder.spans("process") if one is not batch]
    assert batch.status.status_code is StatusCode.ERROR
    assert batch.attributes["error.type"] == "builtins.LookupError"
    assert {link.context.span_id for link in batch.links} == {ident(one) for one in members}


def test_a_batch_of_which_one_is_refused(recorder, make_task: MakeTask) -> None:
    class Refuses(Middleware):
        async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
            if envelope.args == [1] or tuple(envelope.args) == (1,):
                raise LookupError("not this one")
            return await call_next(envelope)

    def echo(value: int) -> int:
        return value

    handler = make_task(echo)
    middleware = [recorder.middleware(), Refuses()]
    with Client("memory://otel-refused", middleware=middleware) as client, pytest.raises(BatchSubmitError):
        client.submit_many(handler.call(number) for number in range(3))
    send = recorder.only("send")
    assert (send.status.status_code, send.attributes["error.type"]) == (StatusCode.ERROR, "builtins.LookupError")
    counted = {
        point.attributes.get("error.type"): point.value for point in recorder.points("messaging.client.sent.messages")
    }
    assert counted == {None: 2, "builtins.LookupError": 1}


def test_a_workflow_is_one_trace(recorder, make_task: MakeTask, url: str) -> None:
    def first(value: int) -> int:
        return value + 1

    def second(value: int) -> int:
        return value * 10

    one, two = make_task(first), make_task(second)
    with Client(url, middleware=[recorder.middleware()]) as client:
        handle = client.submit(one.call(1).then(two))
        Worker(url, tasks=[one, two], middleware=[recorder.middleware()]).run_until_idle()
        assert handle.result(timeout=20) == 20
    processed = recorder.spans("process")
    assert [span.name.split()[-1] for span in processed] == [one.name, two.name]
    assert {span.context.trace_id for span in processed} == {recorder.only("send").context.trace_id}
    assert {parent(span) for span in processed} == {ident(recorder.only("send"))}


def test_attempts_that_fail_are_told_apart(recorder, make_task: MakeTask, url: str) -> None:
    def flaky() -> None:
        raise LookupError(f"attempt {current().attempt}")

    handler = make_task(flaky, retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
    with Client(url, middleware=[recorder.middleware()]) as client:
        handle = client.submit(handler)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        with pytest.raises(TaskFailed, match="attempt 1"):
            handle.result(timeout=20)
    processed, settled = recorder.spans("process"), recorder.spans("settle")
    assert [one.attributes["tranship.task.attempt"] for one in processed] == [0, 1]
    assert {parent(one) for one in processed} == {ident(recorder.only("send"))}
    assert {one.status.status_code for one in processed} == {StatusCode.ERROR}
    assert {one.attributes["error.type"] for one in processed} == {"builtins.LookupError"}
    assert [event.attributes["exception.message"] for one in processed for event in one.events] == [
        "attempt 0",
        "attempt 1",
    ]
    assert [one.attributes["tranship.task.outcome"] for one in settled] == ["retry", "dead"]
    assert [one.status.status_code for one in settled] == [StatusCode.UNSET, StatusCode.ERROR]
    assert [parent(one) for one in settled] == [ident(one) for one in processed]


def test_to_come_later_is_no_failure_and_to_be_rejected_is(recorder, make_task: MakeTask) -> None:
    came: list[int] = []

    def later() -> None:
        came.append(1)
        if len(came) == 1:
            raise Snooze(0.01)
        raise Reject("no use")

    handler, url = make_task(later), "memory://otel-later"
    with Client(url, middleware=[recorder.middleware()]) as client:
        client.submit(handler)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
    assert [one.status.status_code for one in recorder.spans("process")] == [StatusCode.UNSET, StatusCode.ERROR]
    assert [one.attributes["tranship.task.outcome"] for one in recorder.spans("settle")] == ["retry", "dead"]


def test_a_task_that_sleeps_has_a_span_for_each_of_its_runs(recorder, make_task: MakeTask, url: str) -> None:
    runs: list[int] = []

    def sleeps() -> str:
        runs.append(1)
        if len(runs) == 1:
            # As current().sleep() does where there is time left.
            raise Suspended(0.01)
        return "awake"

    handler = make_task(sleeps)
    with Client(url, middleware=[recorder.middleware()]) as client:
        handle = client.submit(handler)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        assert handle.result(timeout=20) == "awake"
    assert [one.status.status_code for one in recorder.spans("process")] == [StatusCode.UNSET, StatusCode.UNSET]
    assert [one.attributes["tranship.task.outcome"] for one in recorder.spans("settle")] == ["retry", "succeeded"]


class Mute(Exception):
    def __str__(self) -> str:
        raise LookupError


@pytest.mark.parametrize(
    ("error", "message"), [(ValueError("\ud800"), "\\ud800"), (Mute(), "(its text cannot be had)")]
)
def test_what_a_handler_raises_can_be_exported(recorder, make_task: MakeTask, error: Exception, message: str) -> None:
    def fails() -> None:
        raise error

    handler, url = make_task(fails), "memory://otel-raises"
    with Client(url, middleware=[recorder.middleware()]) as client:
        handle = client.submit(handler)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        with pytest.raises(TaskFailed) as failed:
            handle.result(timeout=20)
    assert failed.value.type.rpartition(".")[2] == type(error).__name__, "it is still the handler's own error"
    process, settle = recorder.only("process"), recorder.only("settle")
    (event,) = process.events
    assert event.attributes["exception.message"] == message
    said = [
        process.status.description,
        settle.status.description,
        *event.attributes.values(),
        *settle.attributes.values(),
    ]
    for one in said:
        # Half a character would raise here, and in an exporter.
        str(one).encode()


BAD: list[dict[str, Any]] = [
    {"traceparent": ""},
    {"traceparent": "00-xyz-b7ad6b7169203331-01"},
    {"traceparent": "00-00000000000000000000000000000000-b7ad6b7169203331-01"},
    {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"},
    {"traceparent": "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    {"traceparent": f"{STRANGER}-{'x' * 5000}"},
    {"traceparent": 7},
    {"traceparent": [STRANGER, STRANGER]},
    {"traceparent": {"a": [None]}},
    {"traceparent": None, "tracestate": 1.5, "baggage": ["x"]},
    {"tracestate": "=,=,," * 100, "baggage": "=;=,%zz=%zz" + "a=b," * 5000},
]


@pytest.mark.parametrize("headers", BAD, ids=lambda one: str(one)[:40])
def test_a_strangers_nonsense_is_ignored(recorder, make_task: MakeTask, headers: dict[str, Any]) -> None:
    def echo() -> str:
        return "done"

    handler, url = make_task(echo), "memory://otel-nonsense"
    with Client(url, middleware=[Stranger(**headers)]) as client:
        handle = client.submit(handler)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        assert handle.result(timeout=20) == "done"
    assert recorder.only("process").parent is None
    assert recorder.only("settle").attributes["tranship.task.outcome"] == "succeeded"


@pytest.mark.parametrize("value", ["\ud800", "\x00", b"00-ab", object()])
def test_what_only_a_stranger_can_send_is_ignored(value: Any) -> None:
    assert creation_context({"traceparent": value, "tracestate": value, "baggage": value}) is None


def test_a_propagator_that_fails_harms_no_task() -> None:
    class Fails(TraceContextTextMapPropagator):
        def extract(self, *_: Any, **__: Any) -> Any:
            raise LookupError

    usual = propagate.get_global_textmap()
    propagate.set_global_textmap(Fails())
    try:
        assert creation_context({"traceparent": STRANGER}) is None
    finally:
        propagate.set_global_textmap(usual)


def test_names_that_cannot_be_exported_are_written_out() -> None:
    assert readable("a\ud800é") == "a\\ud800é"


def test_nonsense_does_not_reach_the_workflows_next_step_as_more_than_text(recorder, make_task: MakeTask) -> None:
    def first() -> int:
        return 1

    def second(value: int) -> int:
        return value + 1

    one, two, url = make_task(first), make_task(second), "memory://otel-nonsense-step"
    with Client(url, middleware=[Stranger(traceparent={"a": [None]}, baggage=7)]) as client:
        handle = client.submit(one.call().then(two))
        Worker(url, tasks=[one, two], middleware=[recorder.middleware()]).run_until_idle()
        assert handle.result(timeout=20) == 2


def test_state_and_baggage_of_a_stranger_come_along(recorder, make_task: MakeTask) -> None:
    def look() -> list[Any]:
        state = trace.get_current_span().get_span_context().trace_state
        return [state.get("vendor"), baggage.get_baggage("tenant")]

    handler, url = make_task(look), "memory://otel-baggage"
    headers = {"traceparent": STRANGER, "tracestate": "vendor=1", "baggage": "tenant=acme"}
    with Client(url, middleware=[Stranger(**headers)]) as client:
        handle = client.submit(handler)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        assert handle.result(timeout=20) == ["1", "acme"]
    process = recorder.only("process")
    assert (f"{process.context.trace_id:032x}", f"{parent(process):016x}") == tuple(STRANGER.split("-")[1:3])


def test_baggage_of_the_caller_reaches_the_handler(recorder, make_task: MakeTask) -> None:
    async def look() -> Any:
        return baggage.get_baggage("tenant")

    handler, url = make_task(look), "memory://otel-callers-baggage"
    with Client(url, middleware=[recorder.middleware()]) as client:
        token = context.attach(baggage.set_baggage("tenant", "acme"))
        try:
            handle = client.submit(handler)
        finally:
            context.detach(token)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        assert handle.result(timeout=20) == "acme"


def test_a_context_that_the_caller_has_given_stays(recorder, make_task: MakeTask) -> None:
    def echo() -> str:
        return "done"

    handler, url = make_task(echo), "memory://otel-given"
    with Client(url, middleware=[Stranger(traceparent=STRANGER), recorder.middleware()]) as client:
        client.submit(handler)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
    send, process = recorder.only("send"), recorder.only("process")
    assert send.kind is SpanKind.CLIENT
    assert [f"{link.context.span_id:016x}" for link in send.links] == [STRANGER.split("-")[2]]
    assert f"{parent(process):016x}" == STRANGER.split("-")[2]


def test_a_task_that_no_handler_runs_ends_in_its_trace(recorder, make_task: MakeTask) -> None:
    def unknown() -> None: ...

    def known() -> None: ...

    handler, other, url = make_task(unknown), make_task(known), "memory://otel-unknown"
    with Client(url, middleware=[recorder.middleware()]) as client:
        client.submit(handler)
        Worker(url, tasks=[other], middleware=[recorder.middleware()]).run_until_idle()
    settle = recorder.only("settle")
    assert recorder.spans("process") == []
    assert parent(settle) == ident(recorder.only("send"))
    assert settle.status.status_code is StatusCode.ERROR
    assert settle.attributes["error.type"] == "UNKNOWN_TASK"
    (point,) = recorder.points("messaging.client.consumed.messages")
    assert point.attributes["tranship.task.name"] == "_OTHER"
    assert recorder.points("messaging.process.duration") == []
