"""What becomes of a task that runs."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tranship.envelope import DeadLetter, TaskState
from tranship.errors import (
    DeadlineExceeded,
    Reject,
    Retry,
    TaskDeadLettered,
    TaskError,
    TaskFailed,
    TaskTimedOut,
    TranshipError,
)
from tranship.ports import Capability, Inspector
from tranship.retry import ExponentialBackoff, FixedBackoff, LinearBackoff, RetryPolicy
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.facades import FacadeHandle, in_thread

__all__ = ["RetryCases", "RunCases", "ended"]

RESULTS = {Capability.RESULTS}
DELAY = {Capability.RESULTS, Capability.DELAY}


class RetryCases:
    """Part of the worker's suite: failures and further attempts."""

    @worker_case("retry_backoffs", level="capability", needs=DELAY, rationale="each backoff must mean what it says")
    async def test_retry_backoffs(self, facade: FacadeContext) -> None:
        """Two failures, then a success: three attempts, numbered 0 to 2, no sooner than the backoff says."""
        starts: dict[str, list[float]] = {}
        attempts: dict[str, list[int]] = {}

        @task(name="kit.flaky", queue="q")
        async def flaky(name: str) -> int:
            starts.setdefault(name, []).append(time.monotonic())
            attempts.setdefault(name, []).append(current().attempt)
            if current().attempt < 2:
                raise ValueError(name)
            return current().attempt

        client = await facade.client()
        await facade.work(flaky)
        handles = {
            name: await client.submit(flaky.options(retry=RetryPolicy(max_attempts=3, backoff=backoff)), name)
            for name, (backoff, _) in _BACKOFFS.items()
        }
        for name, (_, least) in _BACKOFFS.items():
            assert await handles[name].result(facade.context.patience) == 2
            assert attempts[name] == [0, 1, 2]
            gaps = [after - before for before, after in zip(starts[name], starts[name][1:], strict=False)]
            for gap, at_least in zip(gaps, least, strict=True):
                assert at_least - 0.06 < gap < at_least + 3.0, f"{name}: attempts {gaps} s apart, expected {least}"
        result = await handles["fixed"].wait()
        assert result.attempt == 2

    @worker_case("retry_on_matches_classes", level="capability", needs=DELAY, rationale="not every error is worth it")
    async def test_retry_on_matches_classes(self, facade: FacadeContext) -> None:
        """``retry_on`` names a base class: subclasses are retried, others fail at once, as FAILURE."""
        runs: list[str] = []
        kinds: dict[str, type[Exception]] = {"LookupError": LookupError, "KeyError": KeyError, "ValueError": ValueError}

        @task(name="kit.raise", queue="q")
        def fail(kind: str) -> None:
            runs.append(kind)
            raise kinds[kind](kind)

        policy = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01), retry_on=(LookupError,))
        client = await facade.client()
        await facade.work(fail)
        handles = [await client.submit(fail.options(retry=policy), kind) for kind in kinds]
        states = [(await handle.wait(facade.context.patience)).state for handle in handles]
        assert states == [TaskState.DEAD_LETTERED, TaskState.DEAD_LETTERED, TaskState.FAILURE]
        assert sorted(runs) == sorted(["LookupError", "KeyError"] * 2 + ["ValueError"])

    @worker_case("retry_verdicts", level="capability", needs=DELAY, rationale="the handler knows best")
    async def test_retry_verdicts(self, facade: FacadeContext) -> None:
        """A TaskError that is not retryable, or whose code is in ``stop_on_codes``, ends the task; others go on."""
        runs: list[str] = []

        @task(name="kit.verdict", queue="q")
        async def verdict(code: str, retryable: bool) -> None:
            runs.append(code)
            raise TaskError(f"it is {code}", code=code, retryable=retryable, path="/a", size=[1, 2])

        policy = RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.01), stop_on_codes=("STOP",))
        client = await facade.client()
        await facade.work(verdict)
        handles = [
            await client.submit(verdict.options(retry=policy), code, retryable)
            for code, retryable in (("FINAL", False), ("STOP", True), ("AGAIN", True))
        ]
        errors = [await ended(handle, facade, TaskFailed) for handle in handles]
        assert [error.code for error in errors] == ["FINAL", "STOP", "AGAIN"]
        assert [type(error) for error in errors] == [TaskFailed, TaskFailed, TaskDeadLettered]
        assert sorted(runs) == ["AGAIN", "AGAIN", "AGAIN", "FINAL", "STOP"]
        assert isinstance(errors[0], TaskFailed)
        assert (str(errors[0]), errors[0].retryable) == ("it is FINAL", False)
        assert errors[0].details == {"path": "/a", "size": [1, 2]}
        assert errors[0].type == "tranship.errors.TaskError"
        assert "verdict" in (errors[0].traceback or "")

    @worker_case("retry_asked_for", level="capability", needs=DELAY, rationale="a server says when to come back")
    async def test_retry_asked_for(self, facade: FacadeContext) -> None:
        """``Retry(delay)`` means this delay, ``retry_after`` at least this one; ``Retry`` needs no policy."""
        starts: dict[str, list[float]] = {}

        class Busy(Exception):
            retry_after = 0.5

        @task(name="kit.ask", queue="q")
        async def ask(how: str) -> int:
            starts.setdefault(how, []).append(time.monotonic())
            if current().attempt == 0:
                raise Busy if how == "retry_after" else Retry(0.3)
            return current().attempt

        slow = RetryPolicy(max_attempts=2, backoff=FixedBackoff(20.0))
        quick = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01))
        client = await facade.client()
        await facade.work(ask)
        asked = {"plain": None, "slow": slow, "retry_after": quick}
        handles = [await client.submit(ask.options(retry=policy), how) for how, policy in asked.items()]
        assert [await handle.result(facade.context.patience) for handle in handles] == [1, 1, 1]
        gaps = {how: after - before for how, (before, after) in starts.items()}
        assert min(gaps["plain"], gaps["slow"]) > 0.24, gaps
        assert gaps["retry_after"] > 0.44, gaps

    @worker_case(
        "retries_exhausted_dead_letter",
        level="capability",
        needs=DELAY | {Capability.DEAD_LETTERS},
        rationale="a task that was given up must be found, and can be run again",
    )
    async def test_retries_exhausted_dead_letter(self, facade: FacadeContext) -> None:
        """After the last attempt: DEAD_LETTERED for who waits, and a dead letter with its reason; replay runs it."""
        good = threading.Event()

        @task(name="kit.sick", queue="q", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
        def sick(value: int) -> int:
            if not good.is_set():
                raise OSError("no such luck")
            return value

        client = await facade.client()
        await facade.work(sick)
        handle = await client.submit(sick, 7)
        error = await ended(handle, facade, TaskDeadLettered)
        assert (error.task_id, "no such luck" in str(error)) == (handle.id, True)
        inspector = (await facade.context.open()).inspector()
        letter = await buried(facade, inspector)
        assert (letter.task_id, letter.task, letter.reason) == (handle.id, "kit.sick", "retries-exhausted")
        assert "no such luck" in letter.detail
        good.set()
        if facade.context.harness.results is not None:
            # The broker forgets results of its own only.
            await client.forget([handle])
        await inspector.dead_replay([letter.id])
        assert await client.handle(handle.id).result(facade.context.patience) == 7

    @worker_case(
        "reject_by_handler",
        level="capability",
        needs=RESULTS | {Capability.DEAD_LETTERS},
        rationale="a handler may know that nobody will ever succeed",
    )
    async def test_reject_by_handler(self, facade: FacadeContext) -> None:
        """One run, whatever the policy says; a dead letter with the handler's reason."""
        runs = []

        @task(name="kit.reject", queue="q", retry=RetryPolicy(max_attempts=5))
        async def reject() -> None:
            runs.append(1)
            raise Reject("wrong-customer")

        client = await facade.client()
        await facade.work(reject)
        handle = await client.submit(reject)
        await ended(handle, facade, TaskDeadLettered)
        letter = await buried(facade, (await facade.context.open()).inspector())
        assert (letter.task_id, letter.reason, len(runs)) == (handle.id, "wrong-customer", 1)


class LeavingCases:
    """Part of the worker's suite: handlers that want to end the process."""

    @worker_case(
        "leaving_is_an_outcome",
        level="capability",
        needs=RESULTS,
        rationale="a task may not end the worker that others rely on, by whatever it raises",
    )
    async def test_leaving_is_an_outcome(self, facade: FacadeContext) -> None:
        """KeyboardInterrupt and sys.exit, in a handler, a part, a callback, a thread, a value: each task fails or
        goes on, and the worker does.
        """

        @task(name="kit.leave", queue="q")
        async def leave(how: str) -> Any:
            return await _LEAVING[how]()

        @task(name="kit.leave-thread", queue="q")
        def leave_thread() -> None:
            raise KeyboardInterrupt

        client = await facade.client()
        worker = await facade.work_in_thread(leave, leave_thread)
        handles = [await client.submit(leave, how) for how in _LEAVING]
        errors = [await ended(handle, facade, TaskFailed) for handle in handles]
        assert [error.type for error in errors[:-1]] == [
            "builtins.KeyboardInterrupt",
            "builtins.SystemExit",
            "builtins.SystemExit",
            "builtins.LookupError",
        ]
        assert (await ended(await client.submit(leave_thread), facade, TaskFailed)).type == "builtins.KeyboardInterrupt"
        await facade.until(lambda: worker.status().done == len(handles) + 1, "all are settled")
        assert worker.status().ready


class LimitCases:
    """Part of the worker's suite: limits of time and size."""

    @worker_case("run_timeout", level="capability", needs=RESULTS, rationale="one hanging attempt must not take a slot")
    async def test_run_timeout(self, facade: FacadeContext) -> None:
        """``async def`` is cancelled, ``def`` is told; TaskTimedOut for who waits, in time; neighbours go on."""
        cancelled = threading.Event()
        told = threading.Event()

        @task(name="kit.slow", queue="q", run_timeout=0.4)
        async def slow() -> None:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        @task(name="kit.slow-thread", queue="q", run_timeout=0.4)
        def slow_thread() -> None:
            if current().wait_cancelled(20):
                told.set()

        @task(name="kit.quick", queue="q", run_timeout=20)
        def quick() -> str:
            return "quick"

        client = await facade.client()
        await facade.work(slow, slow_thread, quick)
        started = time.monotonic()
        handles = [await client.submit(slow), await client.submit(slow_thread)]
        for handle in handles:
            await ended(handle, facade, TaskTimedOut)
        assert 0.35 < time.monotonic() - started < 10.0
        assert cancelled.is_set()
        assert await in_thread(told.wait, 5.0), "the thread was not told"
        assert await (await client.submit(quick)).result(facade.context.patience) == "quick"

    @worker_case("deadline_while_running", level="capability", needs=RESULTS, rationale="late work is work for nobody")
    async def test_deadline_while_running(self, facade: FacadeContext) -> None:
        """It passes while the task runs: EXPIRED, the handler is stopped, and no retry follows."""
        runs: list[str] = []

        @task(name="kit.late", queue="q", deadline_in=1.5, retry=RetryPolicy(max_attempts=3))
        async def late() -> None:
            runs.append("async")
            await asyncio.sleep(30)

        @task(name="kit.late-thread", queue="q", deadline_in=1.5, retry=RetryPolicy(max_attempts=3))
        def late_thread() -> None:
            runs.append("thread")
            current().wait_cancelled(20)
            current().raise_if_cancelled()

        client = await facade.client()
        await facade.work(late, late_thread)
        handles = [await client.submit(late), await client.submit(late_thread)]
        for handle in handles:
            await ended(handle, facade, DeadlineExceeded)
            assert await handle.state() is TaskState.EXPIRED
        assert sorted(runs) == ["async", "thread"]

    @worker_case(
        "result_unserialisable", level="capability", needs=RESULTS, rationale="who waits must not wait for ever"
    )
    async def test_result_unserialisable(self, facade: FacadeContext) -> None:
        """A value the codec cannot write, or one that is too large: FAILURE that says so, run once."""
        runs: list[int] = []
        limit = (await facade.context.open()).submitter().max_message_size

        @task(name="kit.bad-result", queue="q", retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.01)))
        def bad_result(size: int) -> Any:
            runs.append(size)
            return "x" * size if size else object()

        client = await facade.client()
        await facade.work(bad_result)
        for size, code in ((0, "ENCODE"), (limit + 1, "MESSAGE_TOO_LARGE")):
            error = await ended(await client.submit(bad_result, size), facade, TaskFailed)
            assert (error.code, error.retryable) == (code, False)
            assert "kit.bad-result" in str(error)
        assert runs == [0, limit + 1]

    @worker_case(
        "task_of_ten_leases_runs_once",
        level="capability",
        needs={Capability.LEASE, Capability.RESULTS},
        rationale="a long task must run once, however long it is",
    )
    async def test_task_of_ten_leases_runs_once(self, facade: FacadeContext) -> None:
        """Ten leases long, on the loop and in a thread, with a second worker hungry for them: one run each."""
        lease = 1.2
        runs: list[str] = []

        @task(name="kit.long", queue="q")
        async def long(name: str) -> str:
            runs.append(name)
            await asyncio.sleep(lease * 10)
            return name

        @task(name="kit.long-thread", queue="q")
        def long_thread(name: str) -> str:
            runs.append(name)
            time.sleep(lease * 10)
            return name

        client = await facade.client(lease=lease)
        await facade.work(long, long_thread, lease=lease)
        handles = [await client.submit(long, "loop"), await client.submit(long_thread, "thread")]
        await facade.until_long(runs, 2)
        await facade.work(long, long_thread, lease=lease)
        assert [await handle.result(lease * 20) for handle in handles] == ["loop", "thread"]
        assert sorted(runs) == ["loop", "thread"]


class RunCases(RetryCases, LeavingCases, LimitCases):
    """Part of the worker's suite."""


class _Leaves:
    """Writes what is asked for as pydantic does, and ends the process instead."""

    @staticmethod
    def to_python(*_values: Any, **_options: Any) -> Any:
        sys.exit(2)


class _Parting:
    """A value that ends the process when it is written, as a model's own serializer may."""

    __pydantic_serializer__ = _Leaves()


async def _interrupt() -> None:
    raise KeyboardInterrupt


async def _exit() -> None:
    sys.exit(2)


async def _exit_in_a_part() -> None:
    await asyncio.gather(_exit(), asyncio.sleep(0))


async def _exit_in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 2)
    await asyncio.sleep(0.01)
    raise LookupError("it went on")


async def _exit_in_a_value() -> Any:
    return _Parting()


_LEAVING: dict[str, Callable[[], Awaitable[Any]]] = {
    "interrupt": _interrupt,
    "exit": _exit,
    "exit in a part": _exit_in_a_part,
    "exit in a callback": _exit_in_a_callback,
    "exit in a value": _exit_in_a_value,
}

_BACKOFFS: dict[str, tuple[Any, list[float]]] = {
    "fixed": (FixedBackoff(0.2), [0.2, 0.2]),
    "linear": (LinearBackoff(0.1, 0.2), [0.1, 0.3]),
    "exponential": (ExponentialBackoff(0.1, 3.0, jitter="none"), [0.1, 0.3]),
    "full jitter": (ExponentialBackoff(0.2, 2.0, jitter="full"), [0.0, 0.0]),
    "equal jitter": (ExponentialBackoff(0.2, 2.0, jitter="equal"), [0.1, 0.2]),
    "capped": (ExponentialBackoff(0.1, 100.0, max_delay=0.2, jitter="none"), [0.1, 0.2]),
}
"""Each with the least seconds before the second and the third attempt."""


async def ended(handle: FacadeHandle, facade: FacadeContext, kind: type[TranshipError]) -> Any:
    """Insist that the task ends with ``kind``; return the error."""
    try:
        value = await handle.result(facade.context.patience)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, the task returned {value!r}")


async def buried(facade: FacadeContext, inspector: Inspector) -> DeadLetter:
    """Return the only dead letter of the queue. A result in a store of its own is there before the letter is."""
    letters: list[DeadLetter] = []

    async def there() -> bool:
        letters[:] = await inspector.dead("q")
        return bool(letters)

    await facade.context.eventually(there, "it is a dead letter")
    (letter,) = letters
    return letter
