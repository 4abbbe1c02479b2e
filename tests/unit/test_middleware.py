"""Middleware where no broker matters: what is refused, what costs nothing, and stopping handlers behind it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from tranship import AsyncClient, Middleware, Outcome, Snooze, Worker, current, named, task
from tranship.envelope import ErrorInfo, TaskState
from tranship.errors import ConfigurationError, InvalidOptionError, SubmitError, TaskCancelled, TaskTimedOut
from tranship.middleware import chain_of, checked
from tranship.retry import FixedBackoff, RetryPolicy

URL = "memory://test-middleware"


class Passes(Middleware):
    async def run(self, call, call_next):
        return await call_next(call)


class Swallows(Middleware):
    async def submit(self, envelope, call_next):
        return None


class Watches(Middleware):
    def __init__(self):
        self.seen = []

    async def settle(self, call, call_next):
        self.seen.append((call.ending.value, call.envelope.attempt, call.duration is not None))
        await call_next(call)


@pytest.mark.parametrize("given", [Passes(), [Passes], ["x"], 7])
def test_what_is_no_middleware_is_refused(given):
    with pytest.raises(InvalidOptionError, match="middleware"):
        checked(given)


def test_a_verb_that_nobody_overrides_has_no_chain():
    several = [Passes(), Middleware()]
    assert chain_of(several, "run") is not None
    assert all(chain_of(several, verb) is None for verb in ("submit", "settle", "result"))


async def working(worker, work):
    serving = asyncio.create_task(worker.serve())
    try:
        return await work()
    finally:
        worker.stop()
        await serving


async def test_a_submit_that_is_not_handed_on_is_an_error():
    async with AsyncClient(URL, middleware=[Swallows()]) as client:
        with pytest.raises(SubmitError, match="did not hand task"):
            await client.submit(named("any"))


async def test_a_result_that_is_none_is_an_error():
    class Forgets(Middleware):
        async def result(self, result, call_next):
            await call_next(result)

    @task(name="any")
    async def anything() -> None: ...

    async with AsyncClient(URL, middleware=[Forgets()]) as client:
        handle = await client.submit(anything)
        await Worker(URL, tasks=[anything]).serve_until_idle(10)
        with pytest.raises(ConfigurationError, match=f"is None for task {handle.id}; return a TaskResult"):
            await handle.result(timeout=5)


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_run_timeout_holds_behind_middleware(kind):
    noticed = threading.Event()

    @task(name="slow.async", run_timeout=0.05)
    async def slow():
        await asyncio.sleep(60)

    @task(name="slow.thread", run_timeout=0.05)
    def slow_thread():
        if current().wait_cancelled(60):
            noticed.set()

    worker = Worker(URL, tasks=[slow, slow_thread], middleware=[Passes()])
    async with AsyncClient(URL) as client:
        handle = await client.submit(slow if kind == "async" else slow_thread)

        async def work():
            with pytest.raises(TaskTimedOut):
                await handle.result(20)

        await working(worker, work)
    assert kind == "async" or noticed.is_set()


async def test_a_cancel_reaches_a_thread_behind_middleware():
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    @task(name="waits")
    def waits():
        loop.call_soon_threadsafe(begun.set)
        current().wait_cancelled(60)
        current().raise_if_cancelled()

    worker = Worker(URL, tasks=[waits], middleware=[Passes()])
    async with AsyncClient(URL) as client:
        handle = await client.submit(waits)

        async def work():
            await asyncio.wait_for(begun.wait(), 20)
            await handle.cancel()
            with pytest.raises(TaskCancelled):
                await handle.result(20)

        await working(worker, work)


async def test_settle_sees_retries_expired_and_unknown_tasks():
    watches = Watches()

    @task(name="flaky", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
    async def flaky():
        if current().attempt == 0:
            raise OSError("once")
        return "done"

    worker = Worker(URL, tasks=[flaky], middleware=[watches])
    async with AsyncClient(URL) as client:
        flake = await client.submit(flaky)
        late = await client.submit(flaky.options(deadline=1.0))
        unknown = await client.submit(named("unheard"))

        async def work():
            assert await flake.result(20) == "done"
            return [(await one.wait(20)).state for one in (late, unknown)]

        assert await working(worker, work) == [TaskState.EXPIRED, TaskState.DEAD_LETTERED]
    assert sorted(watches.seen) == [
        ("dead", 0, False),
        ("expired", 0, False),
        ("retry", 0, True),
        ("succeeded", 1, True),
    ]


async def test_a_settle_cannot_change_how_it_ends():
    class Cheats(Middleware):
        async def settle(self, call, call_next):
            await call_next(replace(call, error=ErrorInfo(type="x", message="y"), value=8))

    @task(name="seven")
    async def seven():
        return 7

    worker = Worker(URL, tasks=[seven], middleware=[Cheats()])
    async with AsyncClient(URL) as client:
        handle = await client.submit(seven)

        async def work():
            return await handle.wait(20)

        result = await working(worker, work)
    assert (result.state, result.value, result.error) == (TaskState.SUCCESS, 8, None)


async def test_settle_sees_statuses_and_snoozes():
    class Notes(Middleware):
        def __init__(self):
            self.seen = []

        async def settle(self, call, call_next):
            self.seen.append((call.ending.value, call.status, call.snoozed))
            await call_next(call)

    late = []

    @task(name="reviewed")
    async def reviewed():
        if not late:
            late.append(1)
            raise Snooze(0.01)
        return Outcome("needs_manual_review", 7)

    notes = Notes()
    async with AsyncClient(URL) as client:
        handle = await client.submit(reviewed)
        await Worker(URL, tasks=[reviewed], middleware=[notes]).serve_until_idle(20)
        assert (await handle.wait(5)).status == "needs_manual_review"
    assert notes.seen == [("retry", None, True), ("succeeded", "needs_manual_review", False)]
