"""Servers that answer wrongly, or not at all: a clear error, nothing lost, and the client goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from azolla_server import BOUND, Orchestrator, lasting_port, serve

from tranship import AsyncClient, task
from tranship.compat import azolla
from tranship.errors import (
    BrokerError,
    BrokerRefused,
    BrokerUnreachable,
    InvalidOptionError,
    MalformedMessage,
    MessageTooLarge,
    SubmitUnknown,
    TranshipError,
)
from tranship.registry import Registry
from tranship_azolla import _methods as methods
from tranship_azolla import wire_pb2 as wire
from tranship_azolla._connection import NOBODY

Handler = Callable[[Any, grpc.ServicerContext], Any]
TASK_ID = "0b8f0a52-6d5c-4a0f-9a55-0c1f6f3c2f11"


@task
def double(number: int) -> int: ...


class Half:
    """An answer that breaks off."""

    def __init__(self, message: Any) -> None:
        self._data = message.SerializeToString()

    def SerializeToString(self) -> bytes:  # noqa: N802 - as a message has it
        return self._data[:-1]


def raw(method: methods.Method) -> methods.Method:
    """The same method, whose answers write themselves."""
    return method._replace(response=type("Raw", (), {"SerializeToString": lambda one: one.SerializeToString()}))


class Scripted:
    """An orchestrator that answers as a test says, once each; otherwise it is well, and every task doubles 21."""

    def __init__(self) -> None:
        self.creates: list[Handler] = []
        self.waits: list[Handler] = []
        self.asked = 0
        handlers = {raw(methods.CREATE_TASK): self._create, raw(methods.WAIT_FOR_TASK): self._wait}
        self._server, port = serve(handlers)
        self.url = f"azolla://127.0.0.1:{port}?command_timeout=1"

    def _create(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked += 1
        if self.creates:
            return self.creates.pop(0)(request, context)
        return wire.CreateTaskResponse(task_id=TASK_ID)

    def _wait(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.task_id == NOBODY:
            return wire.WaitForTaskResponse(status_code=wire.TIMEOUT)
        return self.waits.pop(0)(request, context) if self.waits else done(wire.AnyValue(int_value=42))

    def close(self) -> None:
        self._server.stop(0).wait(BOUND)


def done(value: Any) -> Any:
    return wire.WaitForTaskResponse(status_code=wire.COMPLETED, success=wire.SuccessResult(result=value))


def abort(code: grpc.StatusCode, details: str = "for a reason") -> Handler:
    return lambda _request, context: context.abort(code, details)


def answer(message: Any) -> Handler:
    return lambda _request, _context: message


@pytest.fixture
def silence() -> Iterator[Handler]:
    """A handler that does not answer until the test is over."""
    over = threading.Event()
    yield lambda _request, _context: over.wait(BOUND) and wire.CreateTaskResponse()
    over.set()


@pytest.fixture
def scripted(silence: Handler) -> Iterator[Scripted]:
    with ExitStack() as stack:
        server = Scripted()
        stack.callback(server.close)
        yield server


async def opening(url: str, match: str, kind: type[TranshipError]) -> None:
    with pytest.raises(kind, match=match):
        async with AsyncClient(url):
            pass


async def test_who_cannot_be_opened_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        # It accepts, and says nothing.
        await opening(
            f"azolla://127.0.0.1:{port}?connect_timeout=0.3", "DEADLINE_EXCEEDED|UNAVAILABLE", BrokerUnreachable
        )
    await opening(
        f"azolla://127.0.0.1:{port}", f"127.0.0.1:{port}: WaitForTask ended with UNAVAILABLE", BrokerUnreachable
    )
    server, port = serve({methods.WAIT_FOR_TASK: abort(grpc.StatusCode.UNAUTHENTICATED, "no token")})
    await opening(f"azolla://127.0.0.1:{port}", "UNAUTHENTICATED: no token; it wants credentials", BrokerRefused)
    server.stop(0).wait(BOUND)
    server, port = serve({methods.REPORT_RESULT: abort(grpc.StatusCode.INTERNAL)})
    await opening(f"azolla://127.0.0.1:{port}", "is it an orchestrator", BrokerRefused)
    server.stop(0).wait(BOUND)


@pytest.mark.parametrize(
    ("handler", "kind", "match"),
    [
        (abort(grpc.StatusCode.UNAUTHENTICATED), BrokerRefused, "wants credentials"),
        (
            abort(grpc.StatusCode.INVALID_ARGUMENT, "no such\n domain"),
            InvalidOptionError,
            "no such domain; .* not submit",
        ),
        (abort(grpc.StatusCode.INTERNAL), SubmitUnknown, "INTERNAL: for a reason: .* or not"),
        (abort(grpc.StatusCode.UNAVAILABLE), SubmitUnknown, "UNAVAILABLE"),
        (abort(grpc.StatusCode.RESOURCE_EXHAUSTED), MessageTooLarge, "pass a reference"),
        (answer(Half(wire.CreateTaskResponse(task_id=TASK_ID))), SubmitUnknown, "deserializing"),
        (answer(wire.CreateTaskResponse()), MalformedMessage, "without a task_id"),
    ],
)
async def test_a_submit_that_fails_says_how_and_the_next_one_goes_on(scripted, handler, kind, match):
    async with AsyncClient(scripted.url) as client:
        scripted.creates.append(handler)
        with pytest.raises(kind, match=match):
            await client.submit(double, 21)
        assert scripted.asked == 1  # nobody repeats what may have been done
        assert await (await client.submit(double, 21)).result(BOUND) == 42


async def test_a_submit_without_an_answer_is_unknown_after_its_deadline(scripted, silence):
    async with AsyncClient(scripted.url) as client:
        scripted.creates.append(silence)
        with pytest.raises(SubmitUnknown, match="DEADLINE_EXCEEDED"):
            await client.submit(double, 21)
        assert await (await client.submit(double, 21)).result(BOUND) == 42


@pytest.mark.parametrize(
    ("handler", "kind", "match"),
    [
        (abort(grpc.StatusCode.INTERNAL), BrokerError, "INTERNAL: for a reason"),
        (abort(grpc.StatusCode.PERMISSION_DENIED), BrokerRefused, "proxy"),
        (answer(Half(done(wire.AnyValue(string_value="whole")))), BrokerError, "deserializing"),
        (answer(wire.WaitForTaskResponse(status_code=wire.INTERNAL_ERROR)), BrokerError, "its log says more"),
        (answer(wire.WaitForTaskResponse(status_code=wire.COMPLETED)), MalformedMessage, "does not say how"),
        (answer(done(wire.AnyValue(json_value='{"a":'))), MalformedMessage, f"result of task {TASK_ID} cannot be read"),
    ],
)
async def test_a_result_that_cannot_be_had_says_why_and_may_be_asked_for_again(scripted, handler, kind, match):
    async with AsyncClient(scripted.url) as client:
        handle = await client.submit(double, 21)
        scripted.waits.append(handler)
        with pytest.raises(kind, match=match):
            await handle.result(BOUND)
        assert await handle.result(BOUND) == 42


async def test_azolla_s_client_says_it_in_its_own_words(scripted):
    async with await azolla.Client.connect(scripted.url.replace("azolla", "http")) as client:
        handle = await client.submit_task("double", [21]).submit()
        for answered, kind in (
            (answer(wire.WaitForTaskResponse(status_code=wire.INTERNAL_ERROR)), azolla.exceptions.TaskInternalError),
            (answer(wire.WaitForTaskResponse(status_code=wire.COMPLETED)), azolla.exceptions.TaskInternalError),
            (answer(wire.WaitForTaskResponse(status_code=wire.TASK_NOT_FOUND)), azolla.exceptions.TaskNotFoundError),
            (abort(grpc.StatusCode.UNAUTHENTICATED), azolla.exceptions.ConnectionError),
        ):
            scripted.waits.append(answered)
            with pytest.raises(kind):
                await handle.wait(BOUND)
        assert (await handle.wait(BOUND)).value == 42
        scripted.creates.append(abort(grpc.StatusCode.INTERNAL))
        with pytest.raises(azolla.exceptions.ConnectionError, match="may have been submitted"):
            await client.submit_task("double", [21]).submit()


async def test_who_waits_does_not_notice_what_passes(scripted, silence):
    async with AsyncClient(scripted.url) as client:
        handle = await client.submit(double, 21)
        newer = wire.WaitForTaskResponse(status_code=77)
        scripted.waits += [abort(grpc.StatusCode.UNAVAILABLE), answer(newer), silence]
        assert await handle.result(BOUND) == 42


async def test_what_was_certainly_not_submitted_is_submitted_when_the_orchestrator_is_back():
    first = Orchestrator(lasting_port())
    async with AsyncClient(first.url) as client:
        first.close()
        with pytest.raises(BrokerUnreachable):
            await client.ping()
        second: list[Orchestrator] = []
        # The first look finds nobody; what is found then is another one on the same port.
        threading.Timer(0.3, lambda: second.append(Orchestrator(first.port))).start()
        handle = await client.submit(double, 21)
        assert [*second[0].tasks] == [handle.id]
        second[0].close()


@pytest.mark.parametrize(
    "url", ["azolla://me:hunter2@host", "azolla://host/path", "azolla://a,b", "azolla://h?celery=on"]
)
def test_urls_with_more_than_a_host_are_refused(url):
    with pytest.raises((InvalidOptionError, ValueError)) as caught:
        Registry().create(url)
    assert "hunter2" not in str(caught.value)
