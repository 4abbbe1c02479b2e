"""The promises, one by one, on asyncio's own loop: order, cleanup, errors."""

from __future__ import annotations

import asyncio
import functools

import pytest
from stage_plans import PHASES, Plan, cancel_at, fail_after, never

from tranship.stages import AsyncTask, PhaseCancelled, TaskFunction


async def test_levels_go_up_one_by_one_and_down_again() -> None:
    plan = Plan().add("a", level=1).add("b", level=2).add("c", level=2).add("d", level=30)
    log = await plan.run()
    assert log[0] == "a.pre"
    assert set(log[1:3]) == {"b.pre", "c.pre"}
    assert log[3] == "d.pre"
    assert set(log[4:8]) == {"a.run", "b.run", "c.run", "d.run"}
    assert log[8] == "d.post"
    assert set(log[9:11]) == {"b.post", "c.post"}
    assert log[11:] == ["a.post"]


async def test_tasks_of_a_level_run_at_the_same_time() -> None:
    barrier = asyncio.Barrier(3)
    plan = Plan(**{f"{name}__{phase}": barrier.wait for name in "abc" for phase in PHASES.values()})
    for name in "abc":
        plan.add(name, level=1)
    async with asyncio.timeout(10):
        assert len(await plan.run()) == 9


async def test_names_order_only_those_they_name() -> None:
    free = asyncio.Event()

    async def release():
        free.set()

    # b waits for a; c does not, although it was added last: a can wait for c.
    plan = Plan(a__pre=free.wait, c__pre=release)
    plan.add("b", after="a").add("a").add("c")
    async with asyncio.timeout(10):
        await plan.run()
    a, b = plan.index("a.pre", "b.pre")
    assert a < b
    late, early = plan.index("a.post", "b.post")
    assert early < late


async def test_a_task_without_pre_passes_the_order_on() -> None:
    plan = Plan().add("c", after="b").add("b", ("execute",), after="a").add("a")
    log = await plan.run()
    assert log == ["a.pre", "c.pre", *log[2:5], "c.post", "a.post"]


async def test_nothing_of_a_higher_level_runs_after_a_failure() -> None:
    """FEATURES 0.1: sdax 0.3.2 runs level 2, and its execute."""
    plan = Plan(a__pre=ValueError("no")).add("a", level=1).add("b", level=2)
    with pytest.raises(ExceptionGroup) as caught:
        await plan.run()
    assert plan.log == ["a.pre", "a.post"]
    assert [str(error) for error in caught.value.exceptions] == ["no"]
    assert caught.value.exceptions[0].__notes__ == ["in pre_execute of task 'a'"]
    assert str(caught.value) == "failed: pre_execute of task 'a' (1 sub-exception)"


async def test_a_cancelled_pre_is_cleaned_up() -> None:
    """FEATURES 0.2: sdax 0.3.2 never runs post."""
    plan = Plan(b__pre=never).add("a", level=1).add("b", level=2).add("c", level=3)
    task = await cancel_at(plan, "b.pre")
    assert task.cancelled()
    assert plan.log == ["a.pre", "b.pre", "b.post", "a.post"]


async def test_a_cancelled_execute_is_not_run_again() -> None:
    """FEATURES 0.3: sdax 0.7.1 runs it a second time, to its end."""
    plan = Plan(a__run=never).add("a", level=1)
    task = await cancel_at(plan, "a.run")
    assert task.cancelled()
    assert plan.log == ["a.pre", "a.run", "a.post"]


async def test_cleanup_is_not_disturbed_by_any_number_of_cancellations() -> None:
    free = asyncio.Event()
    plan = Plan(a__post=free.wait, b__post=ValueError("stuck")).add("a", level=1).add("b", level=2)
    task = asyncio.ensure_future(plan.run())
    async with asyncio.timeout(10):
        await plan.reached["a.post"].wait()
        for _ in range(5):
            task.cancel("enough")
            await asyncio.sleep(0)
        assert not task.done()
        free.set()
        with pytest.raises(asyncio.CancelledError, match="enough") as caught:
            await task
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert [str(error) for error in group.exceptions] == ["stuck"]
    assert plan.log[-2:] == ["b.post", "a.post"]
    assert task.cancelling() == 5


async def test_a_timeout_around_it_is_a_timeout() -> None:
    plan = Plan(a__run=never, a__post=ValueError("stuck")).add("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await plan.run()
    assert plan.log == ["a.pre", "a.run", "a.post"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_each_cleanup_is_isolated_from_the_others() -> None:
    errors = {f"{name}__post": ValueError(name) for name in "abc"}
    plan = Plan(**errors, d__post=functools.partial(asyncio.sleep, 0.01))
    for level, name in enumerate("abcd"):
        plan.add(name, level=level // 2)
    with pytest.raises(ExceptionGroup) as caught:
        await plan.run()
    assert sorted(str(error) for error in caught.value.exceptions) == ["a", "b", "c"]
    assert sorted(plan.log[-4:]) == ["a.post", "b.post", "c.post", "d.post"]


async def test_cleanup_has_its_own_timeout() -> None:
    plan = Plan(a__post=never).add("a", ("pre_execute", "post_execute"), timeout=0.01)
    with pytest.raises(ExceptionGroup) as caught:
        await plan.run()
    (error,) = caught.value.exceptions
    assert isinstance(error, TimeoutError)
    assert str(error) == "no end after 0.01 s"


async def test_everything_that_went_wrong_is_told() -> None:
    async def go_wrong_when_cancelled():
        try:
            await never()
        finally:
            raise KeyError("b")

    plan = Plan(a__run=ValueError("a"), b__run=go_wrong_when_cancelled, c__run=never, a__post=OSError("late"))
    with pytest.raises(ExceptionGroup) as caught:
        await plan.add("a").add("b").add("c").run()
    kinds = [type(error) for error in caught.value.exceptions]
    assert kinds == [ValueError, KeyError, OSError]


async def test_except_star_sees_each_failure() -> None:
    seen = []
    plan = Plan(a__post=ValueError("v"), b__post=TimeoutError("t")).add("a").add("b")
    try:
        await plan.run()
    except* ValueError as group:
        seen += group.exceptions
    except* TimeoutError as group:
        seen += group.exceptions
    assert sorted(map(str, seen)) == ["t", "v"]


async def test_a_function_that_cancels_itself_has_failed() -> None:
    plan = Plan(a__pre=asyncio.CancelledError("me")).add("a", level=1).add("b", level=2)
    with pytest.raises(ExceptionGroup) as caught:
        await plan.run()
    (error,) = caught.value.exceptions
    assert isinstance(error, PhaseCancelled)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert plan.log == ["a.pre", "a.post"]


async def test_a_base_exception_makes_a_base_exception_group() -> None:
    class Odd(BaseException):
        pass

    plan = Plan(a__run=Odd("odd")).add("a")
    with pytest.raises(BaseExceptionGroup) as caught:
        await plan.run()
    assert not isinstance(caught.value, ExceptionGroup)
    assert plan.log[-1] == "a.post"


def test_leaving_the_interpreter_cleans_up_first() -> None:
    plan = Plan(a__run=SystemExit(3)).add("a")
    with pytest.raises(SystemExit):
        asyncio.run(plan.run())
    assert plan.log == ["a.pre", "a.run", "a.post"]


async def test_a_function_that_cannot_be_called_has_failed() -> None:
    async def no_arguments():
        pass

    plan = Plan()
    plan.builder.add_task(AsyncTask("a", pre_execute=TaskFunction(no_arguments)), level=1)
    plan.add("b", level=1).add("c", level=2)
    with pytest.raises(ExceptionGroup) as caught:
        await plan.run()
    assert isinstance(caught.value.exceptions[0], TypeError)
    assert "c.pre" not in plan.log


async def test_a_post_whose_pre_never_took_a_step_does_not_run() -> None:
    """b is begun in the very turn in which c fails."""
    plan = Plan(c__pre=functools.partial(fail_after, 1)).add("c").add("a").add("b", after="a")
    with pytest.raises(ExceptionGroup):
        await plan.run()
    assert sorted(plan.log) == ["a.post", "a.pre", "c.post", "c.pre"]
