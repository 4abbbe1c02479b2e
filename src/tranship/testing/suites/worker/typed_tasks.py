"""Arguments that are held to their annotations, and tasks that are classes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from tranship.errors import InvalidArgumentsError, TaskFailed
from tranship.ports import Capability
from tranship.task import TaskClass, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.suites.worker.runs import ended

__all__ = ["TypedCases"]

RESULTS: Final = {Capability.RESULTS}


class Color(enum.Enum):
    """As it is, or as its value."""

    RED = "red"


class Label(TaskClass, name="kit.label", queue="q"):
    """A task that is a class."""

    @dataclass
    class Args:
        """Of a label."""

        text: str
        times: int = 1

    async def run(self, args: Args) -> str:
        """Return the text so many times."""
        return args.text * args.times


@task(name="kit.stretch", queue="q")
async def stretch(word: str, times: int) -> str:
    """Return the word so many times."""
    return word * times


@task(name="kit.keep", queue="q")
async def keep(pair: tuple[int, str], by_number: dict[int, Color], numbers: set[int], pause: timedelta) -> list[Any]:
    """Say what arrived."""
    return [type(pair).__name__, by_number[1].name, sorted(numbers), pause.total_seconds()]


@task(name="kit.pair", queue="q")
async def pair_of(number: int) -> tuple[int, set[int]]:
    """Return what JSON has no word for."""
    return number, {number}


class TypedCases:
    """Part of the worker's suite."""

    @worker_case(
        "wrong_types_fail", level="capability", needs=RESULTS, rationale="a foreign sender knows no annotations"
    )
    async def test_wrong_types_fail(self, facade: FacadeContext) -> None:
        """A wrong type, by name: FAILURE, not retried, that names the argument; the worker goes on."""
        client = await facade.client()
        await facade.work(stretch, Label.task)
        backend = await facade.context.open()
        for name, kwargs, named in (
            ("kit.stretch", {"word": "a", "times": "many"}, "'times'"),
            ("kit.stretch", {"word": ["secret"], "times": 1}, "'word'"),
            ("kit.label", {"text": "a", "times": {}}, "times"),
            ("kit.label", {"times": 2}, "text"),
        ):
            (task_id,) = await facade.context.submit(backend, facade.context.message(task=name, kwargs=kwargs))
            error = await ended(client.handle(task_id), facade, TaskFailed)
            assert (error.code, error.retryable) == ("INVALID_ARGUMENTS", False)
            assert named in str(error)
            assert name in str(error)
            assert "secret" not in str(error)
        assert await (await client.submit(stretch, "a", times=2)).result(facade.context.patience) == "aa"

    @worker_case(
        "caller_hears_of_wrong_types", level="core", rationale="what cannot run must not be sent, queued and looked for"
    )
    async def test_caller_hears_of_wrong_types(self, facade: FacadeContext) -> None:
        """A wrong type, by the task itself: the caller hears of it, and nothing is sent."""
        client = await facade.client()
        for wrong in ({"word": 1, "times": 1}, {"word": "a", "times": "1"}):
            error = None
            try:
                await client.submit(stretch, **wrong)
            except InvalidArgumentsError as raised:
                error = raised
            assert error is not None, f"{wrong} was sent"
            assert "nothing was sent" in str(error)
        backend = await facade.context.open()
        await facade.context.quiet(backend.consumer(["q"]), 0.1)

    @worker_case(
        "class_task_runs", level="capability", needs=RESULTS, rationale="its fields are what others send by name"
    )
    async def test_class_task_runs(self, facade: FacadeContext) -> None:
        """A class task runs, given its model, its fields, or by its name."""
        client = await facade.client()
        await facade.work(Label.task)
        handles = [
            await client.submit(Label.task, Label.Args("a", times=3)),
            await client.submit(Label.task.call(Label.Args("b"))),
        ]
        message = facade.context.message(task="kit.label", args=("c",), kwargs={"times": 2})
        (task_id,) = await facade.context.submit(await facade.context.open(), message)
        found = await client.collect([*handles, client.handle(task_id)], facade.context.patience)
        assert [one.value for one in found] == ["aaa", "b", "cc"]

    @worker_case(
        "annotated_values_arrive", level="capability", needs=RESULTS, rationale="JSON has no word for a tuple or a set"
    )
    async def test_annotated_values_arrive(self, facade: FacadeContext) -> None:
        """Tuples, sets, enums, keys that are numbers and lengths of time arrive as annotated, and so do results."""
        client = await facade.client()
        await facade.work(keep, pair_of)
        handle = await client.submit(keep, (1, "a"), {1: Color.RED}, {2, 1}, timedelta(seconds=1.5))
        assert await handle.result(facade.context.patience) == ["tuple", "RED", [1, 2], 1.5]
        back = await client.submit(pair_of, 3)
        assert await back.result(facade.context.patience) == (3, {3})
        assert (await back.wait(facade.context.patience)).value == (3, {3})
