"""Middleware where no broker matters: what is refused, what costs nothing, and stopping handlers behind it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tranship import AsyncClient, Client, Middleware, Outcome, Snooze, Worker, current, named, task
from tranship.client._through import AT_ONCE
from tranship.envelope import ErrorInfo, TaskState
from tranship.errors import (
    ClosedError,
    ConfigurationError,
    InvalidOptionError,
    SubmitError,
    TaskCancelled,
    TaskFailed,
    TaskTimedOut,
)
from tranship.middleware import chain_of, checked, current_batch
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.testing.background import BackgroundWorker

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


def hands_on_nothing(verb):
    async def nothing(self, call, call_next):
        return await call_next(None)

    return type("Nothing", (Middleware,), {verb: nothing})()


@pytest.mark.parametrize("verb", ["submit", "run", "settle", "result"])
async def test_whatever_is_handed_on_in_place_of_a_call_is_named(verb, caplog):
    @task(name="any")
    async def anything() -> int:
        return 1

    middleware = [hands_on_nothing(verb)]
    said = f"the {verb} of a middleware called call_next with None"
    async with AsyncClient(URL, middleware=middleware) as client:
        worker = Worker(URL, tasks=[anything], middleware=middleware)
        if verb == "submit":
            with pytest.raises(ConfigurationError, match=said):
                await client.submit(anything)
            return
        handle = await client.submit(anything)
        assert await worker.serve_until_idle(10) == 1
        if verb == "settle":
            assert await handle.result(5) == 1, "it ends as it was decided"
            assert said in caplog.text
        else:
            with pytest.raises((ConfigurationError, TaskFailed), match=said):
                await handle.result(5)


@pytest.mark.parametrize(
    "changes",
    [{"queue": 7}, {"args": 7}, {"kwargs": [1]}, {"headers": 7}, {"priority": "high"}, {"retry": 3}, {"task": ""}],
    ids=str,
)
async def test_an_envelope_that_cannot_be_is_refused(changes):
    class Changes(Middleware):
        async def submit(self, envelope, call_next):
            return await call_next(replace(envelope, **changes))

    async with AsyncClient(URL, middleware=[Changes()]) as client:
        with pytest.raises(InvalidOptionError, match=f"^{next(iter(changes))} "):
            await client.submit(named("any"))


def settles(what):
    async def settle(self, call, call_next):
        if isinstance(what, BaseException):
            raise what
        await call_next(replace(call, error=what))

    return type("Settles", (Middleware,), {"settle": settle})()


@pytest.mark.parametrize("what", ["text", None, asyncio.CancelledError(), SystemExit(3)], ids=repr)
async def test_a_settle_that_makes_no_sense_or_leaves_changes_nothing(what, caplog):
    runs = []

    @task(name="fails-once")
    async def fails():
        runs.append(1)
        raise ValueError("on purpose")

    async with AsyncClient(URL, middleware=[]) as client:
        handle = await client.submit(fails)
        await Worker(URL, tasks=[fails], middleware=[settles(what)]).serve_until_idle(10)
        result = await handle.wait(5)
    assert (result.state, result.error.message, len(runs)) == (TaskState.FAILURE, "on purpose", 1)
    assert f"middleware failed around the end of task {handle.id}" in caplog.text


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


MANY = 40


class Counts(Middleware):
    """Counts who is here together."""

    def __init__(self):
        self.here = self.most = 0

    async def result(self, result, call_next):
        self.here += 1
        self.most = max(self.most, self.here)
        for _ in range(20):
            await asyncio.sleep(0)
        self.here -= 1
        return await call_next(result)


class Holds(Middleware):
    """Holds one value back until it may go."""

    def __init__(self, held):
        self.held = held
        self.holding = threading.Event()
        self.cancelled = threading.Event()

    def let_go(self):
        assert self.holding.wait(5)
        self.loop.call_soon_threadsafe(self.going.set)

    async def result(self, result, call_next):
        if result.value == self.held:
            self.loop, self.going = asyncio.get_running_loop(), asyncio.Event()
            self.holding.set()
            try:
                await self.going.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return await call_next(result)


class Raises(Middleware):
    async def result(self, result, call_next):
        if result.value == 6:
            raise LookupError("no such tenant")
        return await call_next(result)


class Meets(Middleware):
    """Lets nobody go before all are here: as slow stores would, were they asked one after another for ever."""

    def __init__(self, expected=MANY):
        self.here = 0
        self.expected = expected
        self.all_here = asyncio.Event()

    async def result(self, result, call_next):
        self.here += 1
        if self.here == self.expected:
            self.all_here.set()
        await self.all_here.wait()
        return replace(await call_next(result), value=["met", result.value])


@task(name="double")
async def double(number):
    return 2 * number


CALLS = [double.call(number) for number in range(MANY)]
MET = [["met", 2 * number] for number in range(MANY)]


class TestManyResults:
    def test_collect_has_all_of_them_pass_through_at_once(self):
        with BackgroundWorker(Worker(URL, tasks=[double])), Client(URL, middleware=[Meets()]) as client:
            handles = client.submit_many(CALLS)
            assert [one.value for one in client.collect(handles, 10)] == MET
            assert [one.final.value for one in handles] == MET

    async def test_so_has_the_asynchronous_one(self):
        with BackgroundWorker(Worker(URL, tasks=[double])):
            async with AsyncClient(URL, middleware=[Meets()]) as client:
                handles = await client.submit_many(CALLS)
                assert [one.value for one in await client.collect(handles, 10)] == MET

    def test_what_is_there_already_passes_through_at_once(self):
        with BackgroundWorker(Worker(URL, tasks=[double])), Client(URL) as client:
            ids = [one.id for one in client.submit_many(CALLS)]
            assert len(client.collect(map(client.handle, ids), 10)) == MANY
            with Client(URL, middleware=[Meets()]) as later:
                assert [one.value for one in later.collect(map(later.handle, ids), 0)] == MET

    async def test_so_does_it_for_the_asynchronous_one(self):
        with BackgroundWorker(Worker(URL, tasks=[double])):
            async with AsyncClient(URL) as client:
                ids = [one.id for one in await client.submit_many(CALLS)]
                assert len(await client.collect(map(client.handle, ids), 10)) == MANY
                async with AsyncClient(URL, middleware=[Meets()]) as later:
                    assert [one.value for one in await later.collect(map(later.handle, ids), 0)] == MET

    def test_no_more_than_a_bound_at_once(self):
        many = 3 * AT_ONCE
        counts = Counts()
        with BackgroundWorker(Worker(URL, tasks=[double])), Client(URL, middleware=[counts]) as client:
            handles = client.submit_many(double.call(number) for number in range(many))
            assert len(list(client.as_completed(handles, 10))) == many
            assert 1 < counts.most <= AT_ONCE
            counts.most = 0
            assert len(client.collect([client.handle(one.id) for one in handles], 0)) == many
            assert counts.most == AT_ONCE

    def test_they_come_as_they_have_passed_through(self):
        holds = Holds(held=0)
        with BackgroundWorker(Worker(URL, tasks=[double])), Client(URL, middleware=[holds]) as client:
            handles = client.submit_many(CALLS[:3])
            arriving = client.as_completed(handles, 10)
            assert {next(arriving).result(0), next(arriving).result(0)} == {2, 4}
            holds.let_go()
            assert next(arriving).result(0) == 0

    def test_what_is_held_up_is_not_there_in_time(self):
        holds = Holds(held=0)
        with BackgroundWorker(Worker(URL, tasks=[double])), Client(URL, middleware=[holds]) as client:
            handles = client.submit_many(CALLS[:3])
            held, *others = client.collect(handles, 0.5)
            assert [one.value for one in others] == [2, 4]
            assert not held.state.terminal
            assert holds.cancelled.wait(5)

    @pytest.mark.parametrize("timeout", [0, 10])
    def test_what_it_raises_reaches_who_waits(self, timeout):
        with BackgroundWorker(Worker(URL, tasks=[double])), Client(URL) as plain:
            ids = [one.id for one in plain.submit_many(CALLS)]
            plain.collect(map(plain.handle, ids), 10)
            with Client(URL, middleware=[Raises()]) as client, pytest.raises(LookupError, match="no such tenant"):
                client.collect(map(client.handle, ids), timeout)

    def test_who_waits_hears_that_the_client_was_closed(self):
        holds = Holds(held=0)
        with ThreadPoolExecutor() as pool, BackgroundWorker(Worker(URL, tasks=[double])):
            client = Client(URL, middleware=[holds])
            waiting = pool.submit(client.collect, client.submit_many(CALLS[:3]))
            assert holds.holding.wait(5)
            client.close()
            with pytest.raises(ClosedError, match="while a middleware had the result"):
                waiting.result(5)


class Together(Middleware):
    def __init__(self):
        self.seen, self.ended, self.back = [], [], []

    async def submit(self, envelope, call_next):
        batch = current_batch()
        self.seen.append(batch)
        if batch is not None and len(self.seen) == 1:
            batch.at_end(lambda: self.ended.append(len(self.back)))
        receipt = await call_next(envelope)
        self.back.append(receipt)
        return receipt


async def test_submits_of_one_batch_know_each_other():
    together = Together()
    async with AsyncClient("memory://test-middleware-batch", middleware=[together]) as client:
        await client.submit_many(named("any").call(number) for number in range(3))
        first, *others = together.seen
        assert first is not None
        assert (first.size, [one is first for one in others]) == (3, [True, True])
        assert together.ended == [3], "at the end all are back"
        together.seen.clear()
        await client.submit(named("any"))
        await client.submit_many([named("any").call(1)])
        assert together.seen == [None, None]
        assert current_batch() is None


class Traced(Middleware):
    async def submit(self, envelope, call_next):
        headers = {"traceparent": "00-1", "tracestate": "a=1", "tenant": "acme"}
        return await call_next(replace(envelope, headers={**envelope.headers, **headers}))


@task
def begins() -> int:
    return 1


@task
def follows(value: int) -> dict[str, str]:
    return dict(current().headers)


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, {"traceparent": "00-1", "tracestate": "a=1"}),
        ({"tenant": "own"}, {"traceparent": "00-1", "tracestate": "a=1", "tenant": "own"}),
        ({"traceparent": "00-2"}, {"traceparent": "00-2"}),
    ],
)
def test_a_later_step_inherits_the_trace_context_and_nothing_else(own, found):
    url = "memory://test-middleware-trace"
    with Client(url, middleware=[Traced()]) as client:
        handle = client.submit(begins.call().then(follows.options(headers=own)))
        Worker(url, tasks=[begins, follows]).run_until_idle()
        assert handle.result(timeout=20) == found
