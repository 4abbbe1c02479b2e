"""Middleware around submit, run, settle and result, as those see it who wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tranship.envelope import Ending, Envelope, ErrorInfo, Receipt, TaskResult
from tranship.errors import BatchSubmitError, SubmitError, TaskFailed
from tranship.middleware import Middleware, Next, RunCall, SettleCall
from tranship.ports import Capability
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import raised

__all__ = ["MiddlewareCases"]

RESULTS = {Capability.RESULTS}


class Notes(Middleware):
    """Writes down what it sees before and after; leaves everything as it is."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self._name = name
        self._seen = seen

    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        self._seen.append(f"{self._name} submit")
        receipt = await call_next(envelope)
        self._seen.append(f"{self._name} submitted")
        return receipt

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        self._seen.append(f"{self._name} run")
        try:
            return await call_next(call)
        finally:
            self._seen.append(f"{self._name} ran")

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        self._seen.append(f"{self._name} settle {call.ending.value}")
        await call_next(call)

    async def result(self, result: TaskResult, call_next: Next[TaskResult, TaskResult]) -> TaskResult:
        self._seen.append(f"{self._name} result")
        return await call_next(result)


class Changes(Middleware):
    """Changes what may be changed: header and arguments, the call's arguments, the value, the result."""

    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        changed = replace(envelope, args=(envelope.args[0] + 1,), headers={**envelope.headers, "tenant": "a"})
        return await call_next(changed)

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        return [await call_next(replace(call, args=(call.args[0] * 10,))), call.context.headers["tenant"]]

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        await call_next(replace(call, value=[*call.value, "settled"]))

    async def result(self, result: TaskResult, call_next: Next[TaskResult, TaskResult]) -> TaskResult:
        return replace(await call_next(result), value=[*result.value, "seen"])


class Refuses(Middleware):
    """Raises around what it is told to."""

    def __init__(self, where: str) -> None:
        self._where = where

    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        if self._where == "submit" and envelope.args == (2,):
            raise LookupError("no such tenant")
        return await call_next(envelope)

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        if self._where == "run":
            raise LookupError("no such tenant")
        return await call_next(call)

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        if self._where == "settle":
            raise LookupError("no such tenant")
        await call_next(call)


class Hides(Middleware):
    """Gives every failure another message."""

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        assert call.ending is Ending.FAILED
        await call_next(replace(call, error=ErrorInfo(type="app.Hidden", message="see our log", code="HIDDEN")))


@task(name="kit.around", queue="q")
async def around(number: int) -> int:
    """Runs on the loop."""
    assert current().task == "kit.around"
    return number


@task(name="kit.around_thread", queue="q")
def around_thread(number: int) -> int:
    """Runs in a thread."""
    assert current().task == "kit.around_thread"
    return number


@task(name="kit.around_failing", queue="q")
def around_failing() -> None:
    """Fails with what others should not read."""
    raise ValueError("a secret")


class MiddlewareCases:
    """Part of the facade's suite: what is around every message."""

    @facade_case("middleware_order", level="core", needs=RESULTS, rationale="the first of the list is the outermost")
    async def test_middleware_order(self, facade: FacadeContext) -> None:
        """Around submit, run, settle and result the first middleware is outside of the second."""
        client_saw: list[str] = []
        worker_saw: list[str] = []
        client = await facade.client(middleware=[Notes("outer", client_saw), Notes("inner", client_saw)])
        await facade.work(around, middleware=[Notes("outer", worker_saw), Notes("inner", worker_saw)])
        assert await (await client.submit(around, 7)).result(facade.context.patience) == 7
        assert client_saw == [
            *("outer submit", "inner submit", "inner submitted", "outer submitted"),
            *("outer result", "inner result"),
        ]
        assert worker_saw == [
            *("outer run", "inner run", "inner ran", "outer ran"),
            *("outer settle succeeded", "inner settle succeeded"),
        ]

    @facade_case(
        "middleware_changes", level="core", needs=RESULTS, rationale="one mechanism for what a message carries"
    )
    async def test_middleware_changes(self, facade: FacadeContext) -> None:
        """Arguments, headers and results are what middleware makes of them: async def, def, in batches."""
        client = await facade.client(middleware=[Changes()])
        await facade.work(around, around_thread, middleware=[Changes()])
        expected = [20, "a", "settled", "seen"]
        assert await (await client.submit(around, 1)).result(facade.context.patience) == expected
        assert await (await client.submit(around_thread, 1)).result(facade.context.patience) == expected
        handles = await client.submit_many([around.call(1), around_thread.call(1)])
        assert [one.value for one in await client.collect(handles, facade.context.patience)] == [expected, expected]

    @facade_case(
        "middleware_errors", level="core", needs=RESULTS, rationale="an error in it is told, and nothing hangs"
    )
    async def test_middleware_errors(self, facade: FacadeContext) -> None:
        """Around a submit it reaches the caller, around a run it is the attempt's, around an ending it is logged."""
        client = await facade.client(middleware=[Refuses("submit")])
        await facade.work(around, middleware=[Refuses("settle")])
        await facade.work(around_thread, middleware=[Refuses("run")], queues=["q2"])
        assert "no such tenant" in str(await raised(client.submit(around, 2), LookupError))
        batch = await raised(client.submit_many([around.call(1), around.call(2)]), BatchSubmitError)
        assert list(batch.errors) == [1]
        assert isinstance(batch.errors[1], SubmitError)
        assert "LookupError: no such tenant" in str(batch.errors[1])
        plain = await facade.client()
        (done,) = [one for one in batch.handles if one is not None]
        assert await plain.handle(done.id).result(facade.context.patience) == 1
        failing = await plain.submit(around_thread.options(queue="q2"), 1)
        error = await raised(failing.result(facade.context.patience), TaskFailed)
        assert str(error) == "no such tenant"

    @facade_case("middleware_failures", level="core", needs=RESULTS, rationale="what a failure tells can be changed")
    async def test_middleware_failures(self, facade: FacadeContext) -> None:
        """An ending's middleware sees failures, and what it makes of the error is what arrives."""
        client = await facade.client()
        await facade.work(around_failing, middleware=[Hides()])
        error = await raised((await client.submit(around_failing)).result(facade.context.patience), TaskFailed)
        assert (str(error), error.error_code) == ("see our log", "HIDDEN")
