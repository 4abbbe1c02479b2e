"""Arguments that are held to their annotations, and tasks that are classes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from tranship.errors import InvalidArgumentsError, TaskFailed
from tranship.ports import Capability
from tranship.task import TaskClass, task
from tranship.testing.desk import Desk, worker_case
from tranship.testing.suites.worker_runs import ended

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
    async def test_wrong_types_fail(self, desk: Desk) -> None:
        """A wrong type, by name: FAILURE, not retried, that names the argument; the worker goes on."""
        client = await desk.client()
        await desk.work(stretch, Label.task)
        backend = await desk.lab.open()
        for name, kwargs, named in (
            ("kit.stretch", {"word": "a", "times": "many"}, "'times'"),
            ("kit.stretch", {"word": ["secret"], "times": 1}, "'word'"),
            ("kit.label", {"text": "a", "times": {}}, "times"),
            ("kit.label", {"times": 2}, "text"),
        ):
            (task_id,) = await desk.lab.submit(backend, desk.lab.message(task=name, kwargs=kwargs))
            error = await ended(client.handle(task_id), desk, TaskFailed)
            assert (error.code, error.retryable) == ("INVALID_ARGUMENTS", False)
            assert named in str(error)
            assert name in str(error)
            assert "secret" not in str(error)
        assert await (await client.submit(stretch, "a", times=2)).result(desk.lab.patience) == "aa"

    @worker_case(
        "caller_hears_of_wrong_types", level="core", rationale="what cannot run must not be sent, queued and looked for"
    )
    async def test_caller_hears_of_wrong_types(self, desk: Desk) -> None:
        """A wrong type, by the task itself: the caller hears of it, and nothing is sent."""
        client = await desk.client()
        for wrong in ({"word": 1, "times": 1}, {"word": "a", "times": "1"}):
            error = None
            try:
                await client.submit(stretch, **wrong)
            except InvalidArgumentsError as raised:
                error = raised
            assert error is not None, f"{wrong} was sent"
            assert "nothing was sent" in str(error)
        backend = await desk.lab.open()
        await desk.lab.quiet(backend.consumer(["q"]), 0.1)

    @worker_case(
        "class_task_runs", level="capability", needs=RESULTS, rationale="its fields are what others send by name"
    )
    async def test_class_task_runs(self, desk: Desk) -> None:
        """A class task runs, given its model, its fields, or by its name."""
        client = await desk.client()
        await desk.work(Label.task)
        handles = [
            await client.submit(Label.task, Label.Args("a", times=3)),
            await client.submit(Label.task.call(Label.Args("b"))),
        ]
        message = desk.lab.message(task="kit.label", args=("c",), kwargs={"times": 2})
        (task_id,) = await desk.lab.submit(await desk.lab.open(), message)
        found = await client.collect([*handles, client.handle(task_id)], desk.lab.patience)
        assert [one.value for one in found] == ["aaa", "b", "cc"]

    @worker_case(
        "annotated_values_arrive", level="capability", needs=RESULTS, rationale="JSON has no word for a tuple or a set"
    )
    async def test_annotated_values_arrive(self, desk: Desk) -> None:
        """Tuples, sets, enums, keys that are numbers and lengths of time arrive as annotated, and so do results."""
        client = await desk.client()
        await desk.work(keep, pair_of)
        handle = await client.submit(keep, (1, "a"), {1: Color.RED}, {2, 1}, timedelta(seconds=1.5))
        assert await handle.result(desk.lab.patience) == ["tuple", "RED", [1, 2], 1.5]
        back = await client.submit(pair_of, 3)
        assert await back.result(desk.lab.patience) == (3, {3})
        assert (await back.wait(desk.lab.patience)).value == (3, {3})
