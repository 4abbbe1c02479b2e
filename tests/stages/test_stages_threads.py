"""Plain functions: in threads, asked to stop, and waited for."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tranship.stages import AsyncTask, AsyncTaskProcessor, TaskFunction, cancelled, wait_cancelled


def processor(**tasks: AsyncTask) -> AsyncTaskProcessor:
    builder = AsyncTaskProcessor.builder()
    for level, task in enumerate(tasks.values()):
        builder.add_task(task, level=level)
    return builder.build()


async def raised(coroutine) -> list[BaseException]:
    with pytest.raises(ExceptionGroup) as caught:
        await coroutine
    return list(caught.value.exceptions)


async def test_plain_functions_run_in_threads_at_the_same_time() -> None:
    barrier = threading.Barrier(3)
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    seen = []

    def meet(ctx):
        barrier.wait(5)
        seen.append((threading.current_thread() is threading.main_thread(), variable.get(), cancelled()))

    builder = AsyncTaskProcessor.builder()
    for name in "abc":
        builder.add_task(AsyncTask(name, execute=TaskFunction(meet)))
    await builder.build().process_tasks(None)
    assert seen == [(False, "set", False)] * 3


async def test_a_cancelled_caller_waits_for_the_thread_before_it_cleans_up() -> None:
    log = []
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(ctx):
        loop.call_soon_threadsafe(begun.set)
        log.append(wait_cancelled(10))
        log.append(cancelled())

    def clean(ctx):
        log.append("cleaned")

    task = AsyncTask("a", pre_execute=TaskFunction(work), post_execute=TaskFunction(clean))
    running = asyncio.ensure_future(processor(a=task).process_tasks(None))
    async with asyncio.timeout(10):
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert log == [True, True, "cleaned"]


async def test_a_timeout_asks_waits_and_is_a_timeout() -> None:
    ends = []

    def work(ctx):
        wait_cancelled(10)
        ends.append(time.monotonic())

    begun = time.monotonic()
    (error,) = await raised(processor(a=AsyncTask("a", execute=TaskFunction(work, timeout=0.05))).process_tasks(None))
    assert isinstance(error, TimeoutError)
    assert len(ends) == 1
    assert ends[0] - begun < 10


async def test_retries_never_run_beside_the_attempt_before() -> None:
    running = threading.Lock()
    overlaps = []

    def work(ctx):
        overlaps.append(not running.acquire(blocking=False))
        wait_cancelled(10)
        running.release()

    what = TaskFunction(work, timeout=0.02, retries=2, initial_delay=0)
    await raised(processor(a=AsyncTask("a", execute=what)).process_tasks(None))
    assert overlaps == [False] * 3


async def test_what_a_thread_raises_after_it_was_asked_to_stop_is_told() -> None:
    def work(ctx):
        wait_cancelled(10)
        raise KeyError("in the thread")

    async def fail(ctx):
        raise ValueError("beside it")

    builder = AsyncTaskProcessor.builder()
    builder.add_task(AsyncTask("a", execute=TaskFunction(work)))
    builder.add_task(AsyncTask("b", execute=TaskFunction(fail)))
    errors = await raised(builder.build().process_tasks(None))
    assert [type(error) for error in errors] == [ValueError, KeyError]


@pytest.mark.parametrize("raise_it", [StopIteration("odd"), asyncio.CancelledError(), ZeroDivisionError()])
async def test_odd_errors_come_through(raise_it) -> None:
    def work(ctx):
        raise raise_it

    async with asyncio.timeout(10):
        (error,) = await raised(processor(a=AsyncTask("a", execute=TaskFunction(work))).process_tasks(None))
    assert raise_it in (error, error.__cause__)


async def test_a_plain_wrapper_around_a_coroutine_is_awaited_within_the_timeout() -> None:
    seen = []

    async def inner(ctx):
        seen.append(ctx)
        await asyncio.Event().wait()

    what = TaskFunction(lambda ctx: inner(ctx), timeout=0.02)  # noqa: PLW0108 - a plain function
    (error,) = await raised(processor(a=AsyncTask("a", execute=what)).process_tasks(7))
    assert isinstance(error, TimeoutError)
    assert seen == [7]


async def test_what_is_still_waiting_for_a_thread_when_stopped_never_runs() -> None:
    from concurrent.futures import ThreadPoolExecutor

    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1)
    loop.set_default_executor(pool)
    ran = []
    begun = asyncio.Event()

    def first(ctx):
        loop.call_soon_threadsafe(begun.set)
        wait_cancelled(10)

    builder = AsyncTaskProcessor.builder()
    builder.add_task(AsyncTask("first", execute=TaskFunction(first)))
    builder.add_task(AsyncTask("second", execute=TaskFunction(ran.append)))
    running = asyncio.ensure_future(builder.build().process_tasks("second"))
    async with asyncio.timeout(10):
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert ran == []


def test_outside_of_a_plain_function_there_is_nothing_to_ask() -> None:
    assert cancelled() is False
    with pytest.raises(RuntimeError, match="no such function runs here"):
        wait_cancelled(0)


class _AtOnce(ThreadPoolExecutor):
    """Calls in the caller's own thread, so that a test knows at which turn of the loop something ends."""

    def submit(self, function, /, *args, **kwargs):
        done: Future = Future()
        done.set_result(function(*args, **kwargs))
        return done


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancel_at_the_moment_of_the_return_stops_what_was_returned(turns) -> None:
    asyncio.get_running_loop().set_default_executor(_AtOnce())
    begun = []

    async def endless(ctx):
        begun.append(ctx)
        await asyncio.Event().wait()

    def plain(ctx):
        return endless(ctx)

    running = asyncio.ensure_future(processor(a=AsyncTask("a", execute=TaskFunction(plain))).process_tasks(turns))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await running
    assert len(begun) <= 1
