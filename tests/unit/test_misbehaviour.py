"""Handlers, brokers and callers that misbehave: each task still ends, and nothing is left open."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from patience import until

from tranship import Client, RetryPolicy, Worker, task
from tranship.client import AsyncClient
from tranship.connections import process_table
from tranship.envelope import Envelope, ErrorInfo, Priority, Receipt, TaskResult, TaskState
from tranship.errors import (
    BatchSubmitError,
    BrokerUnreachable,
    ResultTimeout,
    StorageCorrupt,
    SubmitUnknown,
    TaskFailed,
)
from tranship.operations import AsyncOperator, Operator
from tranship.ports import Delivery, Received
from tranship.protocol import Encoder, RawMessage
from tranship.submission import Submission
from tranship.worker._intake import Intake
from tranship.worker._leases import Leases
from tranship.worker._record import Run

RELEASE = threading.Event()


class Abort(BaseException):
    """What ``except Exception`` does not catch."""


class Mute(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def retry_after(self) -> float:
        raise KeyError("no wish")


class OddKey:
    """Cannot be written, nor shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def wrapped(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@task(name="review.raises", retry=RetryPolicy(max_attempts=2, stop_on_codes=("TASK_FAILED",)))
async def raises(kind: str) -> None:
    raise {"exit": SystemExit(3), "abort": Abort("x"), "mute": Mute(), "timeout": ResultTimeout("inner")}[kind]


@task(name="review.odd", store_result=True)
async def odd() -> object:
    return {OddKey(): 1}


@task(name="review.hidden", run_timeout=0.1)
@wrapped
async def hidden(kind: str) -> str:
    if kind == "slow":
        await asyncio.Event().wait()
    if kind == "fail":
        raise ValueError("boom")
    return kind


@task(name="review.deaf")
def deaf() -> None:
    RELEASE.wait(30)


@task(name="review.quick")
async def quick() -> int:
    return 1


def fresh() -> str:
    return f"memory://{uuid4().hex}"


def outcome(url: str, one, *args) -> TaskResult:
    with Client(url) as client:
        handle = client.submit(one, *args)
        Worker(url, tasks=[raises, odd, hidden]).run_until_idle(10)
        return handle.info()


class TestHandlers:
    @pytest.mark.parametrize("kind", ["exit", "abort", "mute"])
    def test_whatever_a_handler_raises_is_its_outcome(self, kind):
        assert outcome(fresh(), raises, kind).state is TaskState.FAILURE

    def test_a_value_whose_own_code_raises_is_a_failure(self):
        assert outcome(fresh(), odd).state is TaskState.FAILURE

    @pytest.mark.parametrize(
        ("kind", "state", "code"),
        [("ok", "SUCCESS", None), ("fail", "FAILURE", "TASK_FAILED"), ("slow", "FAILURE", "TASK_TIMED_OUT")],
    )
    def test_an_async_def_behind_a_plain_wrapper_keeps_its_limit_and_its_error(self, kind, state, code):
        result = outcome(fresh(), hidden, kind)
        assert result.state == state
        assert (result.error and result.error.code) == code

    def test_a_wait_that_failed_inside_of_the_task_is_not_the_callers_own(self):
        error = ErrorInfo(type="tranship.errors.ResultTimeout", message="inner", code=ResultTimeout.code)
        assert isinstance(TaskResult(id="a", state=TaskState.FAILURE, error=error).exception(), TaskFailed)
        assert isinstance(TaskResult(id="a", state=TaskState.PENDING, error=error).exception(), ResultTimeout)

    async def test_a_thread_that_ignores_its_cancel_does_not_hold_up_the_end(self):
        url = fresh()
        worker = Worker(url, tasks=[deaf])
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        try:
            with Client(url) as client:
                handle = client.submit(deaf)
                await until(lambda: bool(worker.status().running))
                (run,) = worker._session.runs()
                # One that has not begun yet ends at once.
                await until(lambda: run.thread_busy is not None)
                handle.cancel()
                await until(lambda: run.stopped is not None)
                worker.stop(hurry=True)
                await asyncio.to_thread(thread.join, 10)
                assert not thread.is_alive()
                assert handle.state() is TaskState.CANCELLED
        finally:
            RELEASE.set()


class Odd:
    """Half a consumer."""

    def __init__(self, how: str = "well", lease: float | None = None) -> None:
        self.how = how
        self.lease = lease
        self.renewals = 0
        self.waits: list[float] = []

    async def extend(self, deliveries):
        self.renewals += 1
        if self.how == "hangs":
            await asyncio.Event().wait()
        if self.how == "fails":
            raise KeyError("a bug")
        return [True] * len(deliveries)

    async def receive(self, limit, wait, *, skip=()):
        self.waits.append(wait)
        await asyncio.sleep(0)
        return Received([])


class TestWorkerParts:
    @pytest.mark.parametrize("how", ["hangs", "fails"])
    async def test_one_bad_consumer_does_not_keep_the_others_from_being_renewed(self, how):
        bad, good = Odd(how), Odd()
        leases = Leases(0.06, fenced=False, stop=Run.tell)
        for consumer in (bad, good):
            delivery = Delivery(RawMessage(b"{}", b""), "q", Priority.NORMAL, None)
            leases.hold(Run(delivery, consumer), time.monotonic())
        keeping = asyncio.create_task(leases.keep())
        await until(lambda: good.renewals >= 3)
        keeping.cancel()

    async def test_a_wait_leaves_most_of_a_short_lease(self):
        consumer = Odd(lease=0.9)
        intake = Intake(lambda: consumer, free=lambda: 1, take=lambda *_: None, silence=60.0)
        running = asyncio.create_task(intake.run())
        await until(lambda: bool(consumer.waits))
        intake.stop()
        await running
        assert consumer.waits[0] <= 0.3

    async def test_a_worker_with_all_slots_taken_is_ready(self):
        intake = Intake(Odd, free=lambda: 0, take=lambda *_: None, silence=0.06)
        running = asyncio.create_task(intake.run())
        await asyncio.sleep(0)
        intake.heard_at -= 60.0
        assert intake.ready
        intake.stop()
        await running

    def test_it_can_be_stopped_while_the_control_channel_does_not_answer(self, monkeypatch):
        from tranship.worker import _session, _shift

        async def deaf(_session):
            await asyncio.Event().wait()

        monkeypatch.setattr(_shift, "LAST_CALL", 0.1)
        monkeypatch.setattr(_session.Session, "listen", deaf)
        worker = Worker(fresh(), tasks=[quick], shutdown_timeout=0.1)
        worker.stop()
        worker.run()


class TestClients:
    @pytest.mark.parametrize("kind", [Client, Operator])
    def test_a_with_block_that_does_not_open_leaves_nothing(self, kind: Any, tmp_path: Path):
        before = process_table().links(), threading.active_count()
        (tmp_path / "no.db").write_text("garbage" * 1000)
        with pytest.raises(StorageCorrupt), kind(f"sqlite:///{tmp_path / 'no.db'}"):
            pass
        assert (process_table().links(), threading.active_count()) == before

    @pytest.mark.parametrize("kind", [AsyncClient, AsyncOperator])
    async def test_the_same_for_async_with(self, kind: Any, tmp_path: Path):
        before = process_table().links()
        (tmp_path / "no.db").write_text("garbage" * 1000)
        with pytest.raises(StorageCorrupt):
            async with kind(f"sqlite:///{tmp_path / 'no.db'}"):
                pass
        assert process_table().links() == before

    async def test_what_ended_in_time_is_yielded_however_slow_the_caller(self):
        async with AsyncClient(url := fresh()) as client:
            handles = await client.submit_many([quick.call() for _ in range(3)])
            await Worker(url, tasks=[quick]).serve_until_idle(10)
            seen = []
            async for handle in client.as_completed(handles, timeout=0.3):
                seen.append(handle)
                await asyncio.sleep(0.2)
            assert len(seen) == 3

    def test_closing_from_elsewhere_a_client_whose_loop_stands_still_does_not_hang(self):
        loop = asyncio.new_event_loop()
        client = AsyncClient(fresh())
        loop.run_until_complete(client.open())
        asyncio.run(asyncio.wait_for(client.aclose(), 5))
        loop.close()

    @pytest.mark.parametrize("answers", [None, []])
    async def test_a_backend_that_forgets_an_answer_leaves_nobody_waiting(self, answers):
        class Forgetful:
            max_message_size = 1000

            async def submit(self, _messages) -> list[Receipt] | None:
                return answers

        submission = Submission(Forgetful(), loop=asyncio.get_running_loop(), timeout=1, retry_safe=False)
        message = Encoder().encode(Envelope(id="a", task="t"))
        (answer,) = await asyncio.wait_for(submission.submit([message]), 5)
        assert isinstance(answer, SubmitUnknown)


class TestNothingToWaitFor:
    """A timeout of 0: no waiting, but what is there already is told."""

    def test_blocking(self):
        with Client("memory://zero") as client:
            handles = [client.submit(nothing) for _ in range(3)]
            with pytest.raises(ResultTimeout):
                client.handle(handles[0].id).result(timeout=0)
            Worker("memory://zero", tasks=[nothing]).run_until_idle(20)
            assert client.handle(handles[0].id).result(timeout=0) == "nothing"
            late = client.submit(nothing)
            found = client.collect([*handles, late], timeout=0)
            assert [one.success for one in found] == [True, True, True, False]

    async def test_async(self):
        async with AsyncClient("memory://zero-async") as client:
            handle = await client.submit(nothing)
            await Worker("memory://zero-async", tasks=[nothing]).serve_until_idle(20)
            assert [one.id async for one in client.as_completed([handle], timeout=0)] == [handle.id]


@task(name="review.nothing")
async def nothing() -> str:
    return "nothing"


async def test_everything_queued_behind_an_outage_times_out_together():
    """The submit timeout counts from the last sign of life, not once per round trip."""
    loop = asyncio.get_running_loop()
    async with AsyncClient("memory://outage", submit_timeout=2.0) as client:
        link = client._connector.any_link()

        def unreachable(messages, answered):
            loop.call_soon(answered, [BrokerUnreachable("down") for _ in messages])

        link.submission._hand_over._prompt.post = unreachable
        begun = loop.time()
        with pytest.raises(BatchSubmitError) as caught:
            await client.submit_many(nothing.call() for _ in range(20_000))
        assert len(caught.value.errors) == 20_000
        assert loop.time() - begun < 20, "twenty round trips would take 40 s"
