"""Observers see every attempt from inside, and decide nothing."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging

import pytest

from tranship.stages import AsyncTask, AsyncTaskProcessor, Attempt, Phase, TaskFunction, cancelled


class Tracer:
    """Spans, as a tracing library makes them current."""

    current = contextvars.ContextVar("span", default="root")

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextlib.contextmanager
    def __call__(self, attempt: Attempt):
        span = f"{attempt.task}.{attempt.phase.value}#{attempt.number}"
        token = self.current.set(span)
        self.lines.append(f"begin {span} in {token.old_value}".replace("<Token.MISSING>", "root"))
        try:
            yield
        except BaseException as error:
            self.lines.append(f"{type(error).__name__} {span}")
            raise
        else:
            self.lines.append(f"end {span}")
        finally:
            self.current.reset(token)


async def test_spans_are_current_in_their_function_on_the_loop_and_in_threads() -> None:
    tracer, seen = Tracer(), []

    async def on_loop(ctx):
        await asyncio.sleep(0)
        seen.append(tracer.current.get())

    def in_thread(ctx):
        seen.append(tracer.current.get())

    processor = (
        AsyncTaskProcessor.builder()
        .observe(tracer)
        .add_task(AsyncTask("a", TaskFunction(on_loop), TaskFunction(in_thread), TaskFunction(on_loop)), level=1)
        .build()
    )
    await processor.process_tasks(None)
    assert seen == ["a.pre_execute#0", "a.execute#0", "a.post_execute#0"]
    assert [line.split()[0] for line in tracer.lines] == ["begin", "end"] * 3
    assert tracer.current.get() == "root"


async def test_each_attempt_is_seen_with_its_end() -> None:
    tracer = Tracer()
    failures = iter([ConnectionError(), ConnectionError()])

    async def flaky(ctx):
        for error in failures:
            raise error
        raise ValueError("at last")

    what = TaskFunction(flaky, retries=5, initial_delay=0)
    processor = AsyncTaskProcessor.builder().observe(tracer).add_task(AsyncTask("a", execute=what)).build()
    with pytest.raises(ExceptionGroup):
        await processor.process_tasks(None)
    assert [line for line in tracer.lines if not line.startswith("begin")] == [
        "ConnectionError a.execute#0",
        "ConnectionError a.execute#1",
        "ValueError a.execute#2",
    ]


async def test_timeouts_and_cancellations_are_seen() -> None:
    tracer = Tracer()

    async def never(ctx):
        await asyncio.Event().wait()

    builder = AsyncTaskProcessor.builder().observe(tracer)
    builder.add_task(AsyncTask("a", execute=TaskFunction(never, timeout=0.01)))
    builder.add_task(AsyncTask("b", execute=TaskFunction(never)))
    with pytest.raises(ExceptionGroup):
        await builder.build().process_tasks(None)
    assert tracer.lines[2:] == ["TimeoutError a.execute#0", "CancelledError b.execute#0"]


@pytest.mark.parametrize("where", ["call", "enter", "exit", "swallow"])
async def test_an_observer_changes_nothing(where, caplog: pytest.LogCaptureFixture) -> None:
    class Bad:
        def __call__(self, attempt: Attempt):
            if where == "call":
                raise RuntimeError("in call")
            return self

        def __enter__(self):
            if where == "enter":
                raise RuntimeError("in enter")

        def __exit__(self, *_):
            if where == "exit":
                raise RuntimeError("in exit")
            return True

    tracer = Tracer()

    async def fail(ctx):
        raise ValueError("mine")

    task = AsyncTask("a", execute=TaskFunction(fail))
    processor = AsyncTaskProcessor.builder().observe(Bad()).observe(tracer).add_task(task).build()
    with caplog.at_level(logging.WARNING), pytest.raises(ExceptionGroup) as caught:
        await processor.process_tasks(None)
    assert [str(error) for error in caught.value.exceptions] == ["mine"]
    assert len(tracer.lines) == 2
    told = [record for record in caplog.records if record.name == "tranship.stages"]
    assert len(told) == (where != "swallow")


async def test_an_attempt_says_what_it_is() -> None:
    seen = []

    def observer(attempt: Attempt):
        seen.append(attempt)
        return contextlib.nullcontext()

    def work(ctx):
        assert not cancelled()

    ctx = object()
    processor = AsyncTaskProcessor.builder().observe(observer).add_task(AsyncTask("a", TaskFunction(work))).build()
    await processor.process_tasks(ctx)
    assert seen == [Attempt("a", Phase.PRE_EXECUTE, 0, ctx)]
