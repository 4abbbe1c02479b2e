"""What cannot be a plan is refused when it is built, by name; what can be is explained."""

from __future__ import annotations

import dataclasses
import io

import pytest

from tranship.stages import AsyncTask, AsyncTaskProcessor, PlanError, TaskFunction


async def nothing(ctx):
    pass


def plain(ctx):
    pass


FINE = TaskFunction(nothing)


def task(name="a", **phases):
    return AsyncTask(name, **(phases or {"execute": FINE}))


def refused(*entries) -> PlanError:
    builder = AsyncTaskProcessor.builder()
    for one, options in entries:
        builder.add_task(one, **options)
    with pytest.raises(PlanError) as caught:
        builder.build()
    return caught.value


@pytest.mark.parametrize(
    ("one", "options", "message"),
    [
        (task("lonely"), {"after": "nobody"}, "task 'lonely' is after 'nobody', but there is no task of that name"),
        (AsyncTask("hollow"), {"level": 1}, "task 'hollow' has no phases; give it at least one of pre_execute"),
        (task(execute=TaskFunction(42)), {}, "function in execute of task 'a' is 42; expected something callable"),
        (task(execute=nothing), {}, r"execute of task 'a' is <function nothing at .*; expected a TaskFunction"),
        (task(pre_execute=TaskFunction(nothing, timeout=-1)), {}, "timeout in pre_execute of task 'a' is -1; expected"),
        (task(execute=TaskFunction(nothing, timeout=0)), {}, "timeout in execute of task 'a' is 0; expected seconds"),
        (task(execute=TaskFunction(nothing, timeout=float("nan"))), {}, "timeout in execute of task 'a' is nan"),
        (task(execute=TaskFunction(nothing, timeout="5")), {}, "timeout in execute of task 'a' is '5'"),
        (task(post_execute=TaskFunction(nothing, retries=-1)), {}, "retries in post_execute of task 'a' is -1"),
        (task(execute=TaskFunction(nothing, retries=True)), {}, "retries in execute of task 'a' is True"),
        (task(execute=TaskFunction(nothing, initial_delay=-0.1)), {}, "initial_delay in execute of task 'a' is -0.1"),
        (task(execute=TaskFunction(nothing, backoff_factor=0)), {}, "backoff_factor in execute of task 'a' is 0"),
        (task(execute=TaskFunction(nothing, retry_on=ValueError)), {}, "retry_on in execute of task 'a' is <class"),
        (task(execute=TaskFunction(nothing, retry_on=(3,))), {}, r"retry_on in execute of task 'a' is \(3,\)"),
        (task(""), {}, "a task's name is ''; expected a text"),
        (task(7), {}, "a task's name is 7; expected a text"),
        (task(), {"level": "one"}, "level of task 'a' is 'one'; expected a whole number"),
        (task(), {"level": True}, "level of task 'a' is True; expected a whole number"),
        (task(), {"after": [3]}, "after of task 'a' has 3; expected the name of a task"),
        (task(), {"after": 3}, "after of task 'a' has 3; expected the name of a task"),
        (nothing, {"level": 1}, r"add_task\(\) was given <function nothing at .*; expected an AsyncTask"),
        (task(), {"after": ("a",)}, "tasks wait for each other: 'a' after 'a'"),
    ],
)
def test_the_error_names_what_is_wrong(one, options, message) -> None:
    with pytest.raises(ValueError, match=message):  # as sdax raises
        raise refused((one, options))


def test_an_observer_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(PlanError, match="was given 3; expected something callable"):
        AsyncTaskProcessor.builder().add_task(task()).observe(3).build()


def test_duplicate_names_are_refused() -> None:
    error = refused((task("twin"), {"level": 1}), (task("twin"), {"level": 2}))
    assert str(error) == "2 tasks are named 'twin'; names are unique"


def test_a_cycle_is_named_from_task_to_task() -> None:
    error = refused(
        (task("free"), {}),
        (task("a"), {"after": "c"}),
        (task("b"), {"after": "a"}),
        (task("c"), {"after": ("b", "free")}),
        (task("victim"), {"after": "a"}),
    )
    assert str(error) == "tasks wait for each other: 'a' after 'c' after 'b' after 'a'"


def test_a_cycle_through_levels_says_the_levels() -> None:
    error = refused((task("low"), {"level": 1, "after": "high"}), (task("high"), {"level": 2}))
    assert str(error) == "tasks wait for each other: 'low' (level 1) after 'high' (level 2) after 'low' (level 1)"


def test_a_long_cycle_is_abridged() -> None:
    ring = [(task(f"t{number}"), {"after": f"t{(number + 1) % 5000}"}) for number in range(5000)]
    assert len(str(refused(*ring))) < 300


def test_all_problems_are_told_at_once() -> None:
    error = refused((AsyncTask("a"), {}), (task("b", execute=TaskFunction(None)), {"level": 0.5}))
    assert len(error.problems) == 3
    assert str(error).splitlines() == ["3 problems:", *error.problems]


def test_declarations_are_frozen_and_compare_by_value() -> None:
    assert TaskFunction(nothing) == TaskFunction(nothing)
    assert AsyncTask("a", FINE) == AsyncTask("a", FINE)
    processor = AsyncTaskProcessor.builder().add_task(task()).build()
    for one, name in ((FINE, "timeout"), (AsyncTask("a", FINE), "name"), (processor, "_plan")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, name, None)


async def test_what_a_builder_is_given_later_does_not_reach_what_it_has_built() -> None:
    ran = []

    async def run(ctx):
        ran.append(ctx)

    builder = AsyncTaskProcessor.builder().add_task(task("a", execute=TaskFunction(run)))
    first = builder.build()
    second = builder.add_task(task("b", execute=TaskFunction(run))).build()
    await first.process_tasks(1)
    await second.process_tasks(2)
    assert ran == [1, 2, 2]


async def test_a_plan_of_nothing_does_nothing() -> None:
    await AsyncTaskProcessor.builder().build().process_tasks(None)


def test_explain_prints_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    slow = TaskFunction(plain, timeout=5, retries=2)
    processor = (
        AsyncTaskProcessor.builder()
        .add_task(AsyncTask("database", pre_execute=slow, post_execute=FINE), level=1)
        .add_task(AsyncTask("flags", pre_execute=FINE), level=1)
        .add_task(AsyncTask("user", pre_execute=FINE, execute=FINE, post_execute=FINE), level=2)
        .add_task(AsyncTask("audit", pre_execute=FINE), after=("database", "flags"))
        .build()
    )
    text = processor.explain()
    assert capsys.readouterr().out == text + "\n"
    assert text.splitlines() == [
        "plan of 4 tasks",
        "pre_execute, in this order:",
        "  level 1: database (in a thread, timeout 5 s, 2 retries on TimeoutError or ConnectionError), flags",
        "  level 2: user",
        "  after database, flags: audit",
        "execute, after all of them and together:",
        "  user",
        "post_execute, at the end, in this order:",
        "  level 2: user",
        "  level 1 and after audit: database",
    ]
    out = io.StringIO()
    assert processor.explain(out) == text
    assert out.getvalue() == text + "\n"
    assert repr(processor) == "<AsyncTaskProcessor of 4 tasks>"
