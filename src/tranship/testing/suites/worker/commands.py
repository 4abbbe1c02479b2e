"""What operators command over the broker: a worker does it, and answers whatever it was."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from tranship.errors import EncodeError, InvalidArgumentsError, InvalidOptionError
from tranship.operations import CommandAnswer, CommandState
from tranship.ports import Capability
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, facade_case, worker_case
from tranship.testing.facades import raised

__all__ = ["CommandCases"]

NEEDS: Final = {Capability.CONTROL, Capability.RESULTS}
SHORT: Final = 0.8
"""Seconds to wait for an answer that does not come: enough for the one that says that a command runs."""


class CommandCases:
    """Part of the worker's suite: live control."""

    @facade_case(
        "control_changes_a_worker",
        level="capability",
        needs=NEEDS,
        rationale="at night a queue is paused by who is there, not by who can deploy",
    )
    async def test_control_changes_a_worker(self, facade: FacadeContext) -> None:
        """A queue, a type and everything is paused and resumed, more run at once, more is logged, one more queue is
        consumed; other workers are told nothing that is not for them.
        """
        order: list[str] = []

        @task(name="kit.paused", queue="q", store_result=True)
        async def paused(number: int) -> int:
            order.append(f"q{number}")
            return number

        @task(name="kit.video", queue="video", task_type="video")
        async def video(number: int) -> int:
            order.append(f"v{number}")
            return number

        client = await facade.client()
        worker = await facade.work(paused, video, name="w-1", max_concurrent_tasks=2)
        assert await _said(facade, "pause", {"queue": "q"}) == "takes from video; paused: q"
        held = await client.submit(paused, 1)
        assert await (await client.submit(video, 1)).result(facade.context.patience) == 1
        assert order == ["v1"], "a queue that is paused was taken from"
        assert await _said(facade, "resume", {"queue": "q"}) == "takes from q, video"
        assert await held.result(facade.context.patience) == 1
        assert await _said(facade, "pause", {"type": "video"}) == "takes from q, video; paused types: video"
        held = await client.submit(video, 2)
        assert await (await client.submit(paused, 2)).result(facade.context.patience) == 2
        assert worker.status().capacity == {"video": 0}
        assert order == ["v1", "q1", "q2"], "a task of a type that is paused was started"
        assert await _said(facade, "resume") == "takes from q, video; paused types: video"
        assert await _said(facade, "resume", {"type": "video"}) == "takes from q, video"
        assert await held.result(facade.context.patience) == 2
        assert await _said(facade, "concurrency", {"limit": 5}) == "runs 5 at once, instead of 2"
        assert await _said(facade, "consume", {"queue": "more"}) == "takes from q, video, more"
        assert await (await client.submit(paused.options(queue="more"), 3)).result(facade.context.patience) == 3
        await facade.work(paused, name="w-2")
        assert await _said(facade, "pause", workers=["w-2"]) == "takes from no queue; paused: q"
        first, second = await facade.command("status")
        assert (first.worker, first.value["paused"], first.value["concurrency"]) == ("w-1", [], 5)
        assert (second.worker, second.value["paused"]) == ("w-2", ["q"])
        assert first.value["changes"][0]["what"] == "queue 'q' is not consumed any more"

    @worker_case(
        "control_calls_own_commands",
        level="capability",
        needs=NEEDS,
        rationale="only its owner knows how to reload what a worker holds",
    )
    async def test_control_calls_own_commands(self, facade: FacadeContext) -> None:
        """``def`` and ``async def``, with arguments by name, and what they return."""
        seen: list[Any] = []

        async def reload(model: str, *, now: bool = False) -> dict[str, Any]:
            seen.append((model, now, asyncio.get_running_loop()))
            return {"loaded": [model]}

        def add(a: int, b: int) -> int:
            return a + b

        await facade.work(_nothing(), name="w-1", on_command={"reload": reload, "add": add})
        loaded = await facade.command("reload", {"model": "große 模型", "now": True})
        assert [one.value for one in loaded] == [{"loaded": ["große 模型"]}]
        assert seen == [("große 模型", True, asyncio.get_running_loop())]
        assert [one.value for one in await facade.command("add", {"a": 1, "b": 2})] == [3]

    @worker_case(
        "control_answers_bad_input",
        level="capability",
        needs=NEEDS,
        rationale="who mistypes a command has to hear it, and no worker may die of it",
        limit=60.0,
    )
    async def test_control_answers_bad_input(self, facade: FacadeContext) -> None:
        """A command nobody knows, arguments that do not fit, are no JSON or far too large, a queue that is not
        consumed, no task at once, functions that raise, end the process or return what cannot be sent, a worker that is
        not there: each is answered, and the worker works.
        """

        def fail() -> None:
            raise KeyError("on purpose")

        def leave() -> None:
            raise SystemExit(3)

        async def cancel() -> None:
            raise asyncio.CancelledError

        own: dict[str, Callable[..., Any]] = {"fail": fail, "leave": leave, "cancel": cancel}
        own |= {"object": object, "large": lambda: "x" * 1_000_000}
        nothing = _nothing()
        await facade.work(nothing, name="w-1", on_command=own)
        for name, arguments, state, text in (
            ("paws", {}, CommandState.UNKNOWN, "did you mean 'pause'? (it has: status, pause, "),
            ("pause", {"queue": "other"}, CommandState.REFUSED, "does not consume queue 'other'; it consumes 'q'"),
            ("pause", {"type": "video"}, CommandState.REFUSED, "no task of this worker is of type 'video'"),
            ("pause", {"cue": "q"}, CommandState.REFUSED, "unexpected keyword argument 'cue'; its arguments are"),
            ("pause", {"queue": 7}, CommandState.REFUSED, "queue is 7; expected a text"),
            ("concurrency", {"limit": 0}, CommandState.REFUSED, "concurrency is 0; expected a whole number"),
            ("concurrency", {}, CommandState.REFUSED, "missing a required argument: 'limit'"),
            ("rate", {"task": [], "per_second": "x"}, CommandState.REFUSED, ""),
            ("log-level", {"level": "loud"}, CommandState.REFUSED, "level is 'LOUD'; expected one of 'DEBUG'"),
            ("fail", {}, CommandState.FAILED, "KeyError: 'on purpose'"),
            ("fail", {"a": 1}, CommandState.REFUSED, "unexpected keyword argument 'a'; its arguments are ()"),
            ("leave", {}, CommandState.FAILED, "it raised SystemExit"),
            ("cancel", {}, CommandState.FAILED, "it raised CancelledError"),
            ("object", {}, CommandState.FAILED, "object"),
            ("large", {}, CommandState.FAILED, "1,000,002 bytes as JSON; expected at most 65,536"),
        ):
            (answer,) = await facade.command(name, arguments)
            assert (answer.state, answer.worker) == (state, "w-1"), (name, arguments, answer)
            assert text in answer.error, (name, answer)
            assert answer.value is None
        await raised(facade.command("pause", {"queue": "x" * 1_000_000}), InvalidArgumentsError)
        await raised(facade.command("pause", {"queue": object()}), EncodeError)
        await raised(facade.command("pause", timeout=0), InvalidOptionError)
        (silent,) = await facade.command("status", workers=["nobody"], timeout=0.1)
        assert (silent.worker, silent.state) == ("nobody", CommandState.SILENT)
        client = await facade.client()
        assert await (await client.submit(nothing)).result(facade.context.patience) == 1

    @worker_case(
        "control_tells_what_runs",
        level="capability",
        needs=NEEDS,
        rationale="one function that hangs must not keep everybody from commanding",
    )
    async def test_control_tells_what_runs(self, facade: FacadeContext) -> None:
        """A function that blocks is told to be running; others, and tasks, go on."""
        gate = threading.Event()
        facade.context.at_end(_opening(gate))

        def block() -> str:
            gate.wait(facade.context.patience * 2)
            return "opened"

        nothing = _nothing()
        await facade.work(nothing, name="w-1", on_command={"block": block})

        async def is_told() -> bool:
            return [one.state for one in await facade.command("block", timeout=SHORT)] == [CommandState.RUNNING]

        await facade.context.eventually(is_told, "it is told that the function runs")
        assert [one.state for one in await facade.command("status")] == [CommandState.DONE]
        client = await facade.client()
        assert await (await client.submit(nothing)).result(facade.context.patience) == 1
        gate.set()
        assert [one.value for one in await facade.command("block")] == ["opened"]

    @worker_case(
        "control_drains_a_worker",
        level="capability",
        needs=NEEDS,
        rationale="a machine is taken away when its last task has ended, and not before",
    )
    async def test_control_drains_a_worker(self, facade: FacadeContext) -> None:
        """What runs ends, nothing else is taken, and the worker stops by itself; called off, it stays."""
        gate, started = asyncio.Event(), list[int]()

        @task(name="kit.gate", queue="q")
        async def wait(number: int) -> int:
            started.append(number)
            await gate.wait()
            return number

        client = await facade.client()
        worker = facade.make_worker(wait, name="w-1", max_concurrent_tasks=5)
        serving = facade.serve(worker)
        first = await client.submit(wait, 1)
        await facade.until_long(started, 1)
        await _said(facade, "drain")
        await _said(facade, "resume")
        second = await client.submit(wait, 2)
        await facade.until_long(started, 2)
        await _said(facade, "drain")
        left = await client.submit(wait, 3)
        (status,) = await facade.command("status")
        assert (status.value["draining"], status.value["queues"]) == (True, [])
        assert not serving.done()
        gate.set()
        assert [await one.result(facade.context.patience) for one in (first, second)] == [1, 2]
        await facade.context.wait_for(serving, facade.context.patience)
        assert serving.done(), "a worker that was drained does not stop"
        assert worker.dismissed
        assert started == [1, 2], "something was taken after all"
        await facade.work(wait, name="w-2")
        assert await left.result(facade.context.patience) == 3

    @worker_case(
        "control_sets_what_is_logged",
        level="capability",
        needs={Capability.CONTROL},
        rationale="whoever looks for an error wants to read more of it, without a restart that makes it go away",
    )
    async def test_control_sets_what_is_logged(self, facade: FacadeContext) -> None:
        """Of a logger, by the name of a level in whatever case."""
        logger = logging.getLogger("kit.commands")
        await facade.work(_nothing(store_result=False), name="w-1")
        for level in ("debug", "ERROR"):
            said = await _said(facade, "log-level", {"level": level, "logger": "kit.commands"})
            assert said == f"logs {level.upper()} and graver of kit.commands"
            assert logging.getLevelName(logger.level) == level.upper()
        logger.setLevel(logging.NOTSET)


async def _said(facade: FacadeContext, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    answers: list[CommandAnswer] = await facade.command(name, arguments, **options)
    assert [one.state for one in answers] == [CommandState.DONE], answers
    return answers[0].value


def _nothing(**options: Any) -> Any:
    async def nothing() -> int:
        return 1

    return task(name="kit.nothing", queue="q", **options)(nothing)


def _opening(gate: threading.Event) -> Callable[[], Any]:
    async def opened() -> None:
        gate.set()

    return opened
