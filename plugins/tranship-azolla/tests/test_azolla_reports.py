"""A process under a shepherd: what it is called with, and what it reports."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import date
from typing import Any

import grpc
import pytest
from azolla_server import BOUND, lasting_port, serve

from tranship import FixedBackoff, RetryPolicy, task
from tranship.compat.azolla import Task, Worker, WorkerInvocation, azolla_task, exceptions
from tranship.compat.azolla._reporting import report
from tranship.envelope import TaskResult, TaskState
from tranship.settings import Settings
from tranship_azolla import _methods as methods
from tranship_azolla import wire_pb2 as wire

TASK_ID = "0b8f0a52-6d5c-4a0f-9a55-0c1f6f3c2f11"


class Told:
    """A shepherd that keeps what it is told."""

    def __init__(self, port: int = 0) -> None:
        self.reports: list[Any] = []
        self.answers: list[Any] = []
        self._server, self.port = serve({methods.REPORT_RESULT: self._report}, port=port)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _report(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.reports.append(request)
        found = self.answers.pop(0) if self.answers else wire.ReportResultResponse(success=True)
        if isinstance(found, grpc.StatusCode):
            context.abort(found, "for a reason")
        return found

    def close(self) -> None:
        self._server.stop(0).wait(BOUND)


@pytest.fixture
def told() -> Iterator[Told]:
    server = Told(lasting_port())
    yield server
    server.close()


@azolla_task
async def mail(to: str, copies: int = 1) -> Any:
    if copies < 0:
        raise exceptions.TaskError("it is negative", error_code="NEGATIVE", error_type="SignError", copies=copies)
    return {"to": to, "copies": copies, "on": date(2026, 11, 30)}


@azolla_task
async def tick() -> None: ...


@azolla_task
async def keep(data: dict) -> int:
    return len(data)


runs: list[int] = []


@task(name="flaky", retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.01)))
async def flaky() -> None:
    runs.append(1)
    raise OSError("no disk")


class EchoTask(Task):
    async def execute(self, args):
        return args


WORKER = Worker.builder()
for one in (mail, tick, keep, flaky, EchoTask()):
    WORKER.register_task(one)


async def reported(told: Told, name: str, args: Any, kwargs: Any = None) -> Any:
    invocation = WorkerInvocation.from_json(TASK_ID, name, json.dumps(args), json.dumps(kwargs or {}), told.endpoint)
    await WORKER.build().run_invocation(invocation)
    request = told.reports[-1]
    assert request.task_id == request.result.task_id == TASK_ID
    return request.result


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "value"),
    [
        # As Azolla's clients send them: an object has the arguments by name, null stands for none.
        ("mail", [{"to": "me", "copies": 2}], {}, {"to": "me", "copies": 2}),
        ("mail", ["me", 2], {}, {"to": "me", "copies": 2}),
        ("mail", ["me"], {"copies": 2}, {"to": "me", "copies": 2}),
        ("tick", [None], {}, None),
        ("keep", [{"data": {"a": 1}}], {}, 1),
        ("keep", [{"a": 1, "b": 2}], {}, 2),
        ("echo", [{"a": 1}], {}, [{"a": 1}]),
        ("echo", [None], {}, [None]),
    ],
)
async def test_what_a_task_is_called_with(told, name, args, kwargs, value):
    found = json.loads((await reported(told, name, args, kwargs)).success.result.json_value)
    if isinstance(value, dict):
        assert found.pop("on")["__value__"] == "2026-11-30"
    assert found == value


async def test_how_a_failure_is_reported(told):
    error = (await reported(told, "mail", ["me", -1])).error
    assert (error.type, error.message, error.retriable) == ("SignError", "it is negative", True)
    assert json.loads(error.data) == {"code": "NEGATIVE", "copies": -1}
    error = (await reported(told, "mail", [{"too": "me"}])).error
    assert (error.type, error.retriable, json.loads(error.data)["code"]) == (
        "TaskValidationError",
        False,
        "VALIDATION_ERROR",
    )
    assert "'to'" in error.message
    error = (await reported(told, "mend", [])).error
    assert (error.type, error.retriable) == ("TaskNotFound", False)


async def test_the_orchestrator_repeats_and_not_the_process(told):
    runs.clear()
    error = (await reported(told, "flaky", [])).error
    assert (len(runs), error.type, error.message, error.retriable) == (1, "OSError", "no disk", True)
    assert json.loads(error.data) == {"code": "TASK_ERROR"}


async def test_a_shepherd_that_does_not_take_it_says_why(told):
    told.answers.append(wire.ReportResultResponse(success=False, message="it was ended by somebody else"))
    with pytest.raises(exceptions.WorkerError, match="ended by somebody else"):
        await reported(told, "tick", [])
    told.answers.append(grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(exceptions.WorkerError, match="ReportResult ended with INVALID_ARGUMENT: for a reason"):
        await reported(told, "tick", [])


async def test_a_report_is_made_again_until_somebody_hears_it(told, caplog):
    told.answers.append(grpc.StatusCode.UNAVAILABLE)
    await reported(told, "tick", [])
    assert len(told.reports) == 2
    told.close()
    later: list[Told] = []
    threading.Timer(0.2, lambda: later.append(Told(told.port))).start()
    invocation = WorkerInvocation(TASK_ID, "tick", [], {}, told.endpoint)
    await WORKER.build().run_invocation(invocation)
    assert [one.task_id for one in later[0].reports] == [TASK_ID]
    later[0].close()
    assert "is reported again for a while: azolla+shepherd://127.0.0.1" in caplog.text
    settings = Settings.load(broker_url=f"azolla+shepherd://127.0.0.1:{told.port}", submit_timeout=0.2)
    with pytest.raises(exceptions.ConnectionError, match="UNAVAILABLE"):
        await report(settings, TaskResult(id=TASK_ID, state=TaskState.SUCCESS))
