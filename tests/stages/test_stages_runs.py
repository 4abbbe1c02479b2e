"""Retries, isolation, kinds of functions, many tasks: on asyncio's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from stage_plans import PHASES, Plan, cancel_at, fail_after, never

import tranship.stages
from tranship.stages import AsyncTask, AsyncTaskProcessor, TaskFunction


class TestRetries:
    async def test_delays_are_as_documented(self, monkeypatch: pytest.MonkeyPatch) -> None:
        slept = []

        async def sleep(delay):
            slept.append(delay)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        attempts = iter([ConnectionError(), TimeoutError(), ConnectionResetError()])

        async def flaky():
            error = next(attempts, None)
            if error is not None:
                raise error

        plan = Plan(a__run=flaky).add("a", ("execute",), retries=3, initial_delay=1.0, backoff_factor=2.0)
        await plan.run()
        assert plan.log == ["a.run"] * 4
        for delay, (low, high) in zip(slept, [(0.5, 1.0), (1.0, 2.0), (2.0, 4.0)], strict=True):
            assert low <= delay <= high

    async def test_jitter_fills_its_range(self, monkeypatch: pytest.MonkeyPatch) -> None:
        slept = []

        async def sleep(delay):
            slept.append(delay)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        plan = Plan(a__run=ConnectionError()).add("a", ("execute",), retries=2000, initial_delay=8, backoff_factor=1)
        with pytest.raises(ExceptionGroup):
            await plan.run()
        assert 4 <= min(slept) < 4.2
        assert 7.8 < max(slept) <= 8
        assert 5.8 < sum(slept) / len(slept) < 6.2

    @pytest.mark.parametrize(
        ("error", "options", "times"),
        [
            (ValueError(), {}, 1),
            (TimeoutError(), {}, 3),
            (ConnectionRefusedError(), {}, 3),
            (ValueError(), {"retry_on": (LookupError, ValueError)}, 3),
            (ConnectionError(), {"retry_on": ()}, 1),
            (asyncio.CancelledError(), {"retry_on": (BaseException,)}, 1),
        ],
    )
    async def test_retry_on(self, error, options, times) -> None:
        plan = Plan(a__run=error).add("a", ("execute",), retries=2, initial_delay=0, **options)
        with pytest.raises(ExceptionGroup):
            await plan.run()
        assert len(plan.log) == times

    async def test_each_attempt_has_the_whole_timeout_and_a_timeout_is_retried(self) -> None:
        plan = Plan(a__run=never).add("a", ("execute",), retries=2, initial_delay=0, timeout=0.01)
        with pytest.raises(ExceptionGroup) as caught:
            await plan.run()
        assert plan.log == ["a.run"] * 3
        assert len(caught.value.exceptions) == 1

    async def test_who_turns_a_cancellation_into_a_connection_error_is_not_retried(self) -> None:
        async def client():
            try:
                await never()
            except asyncio.CancelledError:
                raise ConnectionError("closed") from None

        plan = Plan(a__run=client).add("a", retries=5, initial_delay=0)
        task = await cancel_at(plan, "a.run")
        assert task.cancelled()
        assert plan.log == ["a.pre", "a.run", "a.post"]

    async def test_a_delay_is_cut_short_by_a_failure_elsewhere(self) -> None:
        plan = Plan(a__run=ConnectionError("a"), b__run=functools.partial(fail_after, 3))
        plan.add("a", retries=1, initial_delay=1000).add("b")
        async with asyncio.timeout(10):
            with pytest.raises(ExceptionGroup) as caught:
                await plan.run()
        assert [str(error) for error in caught.value.exceptions] == ["late"]
        assert plan.log.count("a.run") == 1

    async def test_a_delay_may_grow_beyond_all_bounds(self) -> None:
        plan = Plan(a__run=ConnectionError("a")).add(
            "a", ("execute",), retries=2, initial_delay=0, backoff_factor=1e308
        )
        with pytest.raises(ExceptionGroup):
            await plan.run()
        assert plan.log == ["a.run"] * 3


class TestIsolation:
    async def test_executions_at_the_same_time_do_not_mix(self) -> None:
        async def pre(ctx):
            await asyncio.sleep(0.001 * (ctx["id"] % 3))
            ctx["log"].append(("pre", ctx["id"]))
            if ctx["id"] % 5 == 0:
                raise ValueError(ctx["id"])

        async def post(ctx):
            await asyncio.sleep(0)
            ctx["log"].append(("post", ctx["id"]))

        both = AsyncTask("a", pre_execute=TaskFunction(pre), post_execute=TaskFunction(post))
        processor = AsyncTaskProcessor[dict].builder().add_task(both, level=1).build()
        contexts = [{"id": number, "log": []} for number in range(200)]
        results = await asyncio.gather(*(processor.process_tasks(ctx) for ctx in contexts), return_exceptions=True)
        for ctx, result in zip(contexts, results, strict=True):
            assert ctx["log"] == [("pre", ctx["id"]), ("post", ctx["id"])]
            assert (result is None) == (ctx["id"] % 5 != 0)
            if result is not None:
                assert [error.args for error in result.exceptions] == [(ctx["id"],)]

    async def test_every_function_has_an_asyncio_task_and_a_context_of_its_own(self) -> None:
        variable = contextvars.ContextVar("variable", default="unset")
        seen: dict[str, tuple[int, str]] = {}

        async def look(ctx):
            task = asyncio.current_task()
            assert task is not None
            seen[task.get_name()] = (id(task), variable.get())
            variable.set(task.get_name())
            await asyncio.sleep(0)
            assert variable.get() == task.get_name()

        builder = AsyncTaskProcessor.builder()
        for level, name in enumerate("abc"):
            builder.add_task(AsyncTask(name, *[TaskFunction(look)] * 3), level=level // 2)
        variable.set("caller")
        keep = asyncio.current_task()
        await builder.build().process_tasks(None)
        assert set(seen) == {f"{name}.{phase}" for name in "abc" for phase in PHASES}
        assert {value for _, value in seen.values()} == {"caller"}
        assert id(keep) not in {number for number, _ in seen.values()}
        assert variable.get() == "caller"

    async def test_an_execution_may_run_inside_of_another(self) -> None:
        inner = Plan().add("x", level=1)
        plan = Plan(a__run=inner.run).add("a")
        await plan.run()
        assert inner.log == ["x.pre", "x.run", "x.post"]

    def test_one_processor_serves_several_event_loops(self) -> None:
        plan = Plan().add("a", level=1).add("b", level=2)
        processor = plan.builder.build()
        for _ in range(3):
            asyncio.run(processor.process_tasks(None))
        assert len(plan.log) == 18

    async def test_nothing_is_kept_alive_afterwards(self) -> None:
        class Context:
            pass

        plan = Plan(b__run=functools.partial(fail_after, 0)).add("a", level=1).add("b", level=2)
        processor = plan.builder.build()
        ctx = Context()
        with contextlib.suppress(ExceptionGroup):
            await processor.process_tasks(ctx)
        gone = weakref.ref(ctx)
        del ctx
        gc.collect()
        assert gone() is None


class TestFunctionsOfAllKinds:
    class Asynchronous:
        def __init__(self):
            self.seen = []

        async def __call__(self, ctx):
            self.seen.append(asyncio.current_task() is not None and ctx)

        async def method(self, ctx):
            await self(ctx)

        @classmethod
        async def of_class(cls, ctx):
            ctx.append("class")

    async def run(self, function, ctx):
        task = AsyncTask("a", execute=TaskFunction(function))
        await AsyncTaskProcessor.builder().add_task(task).build().process_tasks(ctx)

    async def test_callable_objects_methods_and_partials(self) -> None:
        one = self.Asynchronous()
        for function in (one, one.method, functools.partial(one.method), lambda ctx: one.method(ctx)):  # noqa: PLW0108 - a plain function
            await self.run(function, 5)
        assert one.seen == [5, 5, 5, 5]
        seen: list[str] = []
        await self.run(self.Asynchronous.of_class, seen)
        assert seen == ["class"]

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="markcoroutinefunction is of 3.12")
    async def test_what_only_claims_to_be_a_coroutine_function(self) -> None:
        @inspect.markcoroutinefunction
        def future(ctx):
            return asyncio.get_running_loop().call_soon(ctx.append, 1) and asyncio.sleep(0)

        seen: list[int] = []
        await self.run(future, seen)
        assert seen == [1]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of 3.12")
async def test_eager_tasks_keep_the_order_and_the_cleanup() -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        plan = Plan(c__pre=ValueError()).add("a", level=1).add("b", level=2).add("c", level=3).add("d", level=4)
        with pytest.raises(ExceptionGroup):
            await plan.run()
        assert plan.log == ["a.pre", "b.pre", "c.pre", "c.post", "b.post", "a.post"]
    finally:
        loop.set_task_factory(None)


async def test_a_task_factory_of_the_application_makes_the_tasks() -> None:
    loop = asyncio.get_running_loop()
    made = []

    def factory(loop, coroutine, **options):
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        await Plan().add("a").run()
    finally:
        loop.set_task_factory(None)
    assert len(made) == 3


def test_it_needs_nothing_but_the_standard_library() -> None:
    """Imported and run without site-packages, and without the rest of tranship."""
    source = Path(tranship.stages.__file__).parent.parent
    script = f"""
import asyncio, sys, types
package = types.ModuleType("tranship")
package.__path__ = [{str(source)!r}]
sys.modules["tranship"] = package
import tranship.stages
from tranship.stages import AsyncTask, AsyncTaskProcessor, TaskFunction
async def hello(ctx): print("hello", ctx)
task = AsyncTask("a", execute=TaskFunction(hello, timeout=1))
asyncio.run(AsyncTaskProcessor.builder().add_task(task, level=1).build().process_tasks("you"))
print(sorted(name for name in sys.modules if name.startswith("tranship.") and "stages" not in name))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], check=False, capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("hello you\n[]\n", "")


@pytest.mark.campaign
async def test_a_hundred_thousand_tasks() -> None:
    """Neither the stack nor the time grows with the square: this would not end within the suite's time otherwise."""
    count = 0

    async def step(ctx):
        nonlocal count
        count += 1

    function = TaskFunction(step)
    chain, wide, star = (AsyncTaskProcessor.builder() for _ in range(3))
    for number in range(100_000):
        task = AsyncTask(f"t{number}", pre_execute=function)
        chain.add_task(task, after=f"t{number - 1}" if number else ())
        wide.add_task(task, level=number // 50_000)
        star.add_task(task, after="t0" if number else ())
    for builder in (chain, wide, star):
        await builder.build().process_tasks(None)
    assert count == 300_000
