"""What a worker's owner has done around its work, seen from the tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from tranship.ports import Capability
from tranship.task import Task, current, task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import raised
from tranship.worker import Worker

__all__ = ["WorkerLifecycleCases"]

RESULTS: Final = {Capability.RESULTS}


class WorkerLifecycleCases:
    """Part of the worker's suite; a worker on the case's loop, and one in a thread of its own."""

    @facade_case(
        "worker_lifecycle_order",
        level="capability",
        needs=RESULTS,
        rationale="what handlers use is open before the first and closed after the last",
    )
    async def test_worker_lifecycle_order(self, facade: FacadeContext) -> None:
        """Lifespan, start-ups in order, tasks, shut-downs in order, the lifespan's end: once for each worker, however
        many tasks it runs, on the loop that handlers run on.
        """
        diary = _Diary()
        client = await facade.client()
        for name in ("first", "second"):
            worker = await diary.at_work(facade, name)
            handles = await client.submit_many(diary.task.call(number) for number in range(3))
            assert [one.value for one in await client.collect(handles, facade.context.patience)] == [0, 1, 2]
            await diary.end(facade, worker)
            assert diary.lines == [f"{name} enter", "up 1", "up 2", *["task"] * 3, "down 1", "down 2", "exit"]
            assert len(diary.loops) == 1, "not all of it was on one loop"
            diary.clear()

    @facade_case(
        "worker_lifecycle_stop",
        level="capability",
        needs=RESULTS,
        rationale="a task that is finishing must not find the database closed",
    )
    async def test_worker_lifecycle_stop(self, facade: FacadeContext) -> None:
        """A worker that is told to stop lets what runs end before its shut-downs begin, and its result is stored."""
        diary = _Diary()
        client = await facade.client()
        worker = await diary.at_work(facade, "w")
        handle = await client.submit(diary.task.options(headers={"wait": True}), 7)
        await facade.until(lambda: "task" in diary.lines, "the task runs")
        worker.stop()
        await facade.until(lambda: worker.status().problem == "stopping", "the worker stops")
        assert diary.lines[-1] == "task"
        diary.go_on()
        await diary.end(facade, worker)
        assert diary.lines == ["w enter", "up 1", "up 2", "task", "went on", "down 1", "down 2", "exit"]
        assert await handle.result(facade.context.patience) == 7

    @facade_case(
        "worker_lifecycle_start_fails",
        level="capability",
        needs=RESULTS,
        rationale="a worker without its database must not take tasks in and fail them",
    )
    async def test_worker_lifecycle_start_fails(self, facade: FacadeContext) -> None:
        """A start-up that fails is raised by the worker, which has taken nothing, and what was open before is closed;
        another worker runs the task as one that nobody has seen.
        """
        diary = _Diary()
        client = await facade.client()
        handle = await client.submit(diary.task, 1)

        async def broken() -> None:
            raise OSError("no database")

        around = {**diary.around("failing"), "on_startup": [*diary.up, broken]}
        failing = facade.make_worker(diary.task, **around)
        error = await raised(failing.serve(), OSError)
        assert str(error) == "no database"
        assert diary.lines == ["failing enter", "up 1", "up 2", "exit"]
        diary.clear()
        worker = await diary.at_work(facade, "w")
        assert await handle.result(facade.context.patience) == 1
        assert diary.deliveries == [1]
        await diary.end(facade, worker)


class _Diary:
    """What happened around the work of a worker, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.deliveries: list[int] = []
        self.up: list[Callable[[], Any]] = [self._up_at_once, self._up]
        self._down: list[Callable[[], Any]] = [self._down_async, lambda: self._note("down 2")]
        self._gate = threading.Event()

        @task(name="kit.diary", queue="q")
        async def run(number: int) -> int:
            return await self._run(number)

        self.task: Task[..., Any] = run

    def around(self, name: str) -> dict[str, Any]:
        """The options of a worker that has everything written down."""
        return {
            "name": name,
            "max_concurrent_tasks": 1,
            "lifespan": self._lifespan,
            "on_startup": self.up,
            "on_shutdown": self._down,
        }

    async def at_work(self, facade: FacadeContext, name: str) -> Worker:
        """Return a worker that is at work, on the case's loop or in a thread."""
        start = facade.work if facade.kind == "async" else facade.work_in_thread
        return await start(self.task, **self.around(name))

    async def end(self, facade: FacadeContext, worker: Worker) -> None:
        """Stop the worker and return when it has ended."""
        worker.stop()
        await facade.until(lambda: worker.status().problem == "not at work", "the worker has ended")

    def go_on(self) -> None:
        """Let the task that waits go on."""
        self._gate.set()

    def clear(self) -> None:
        """Begin a new page."""
        self.lines.clear()
        self.loops.clear()

    async def _run(self, number: int) -> int:
        self._note("task")
        self.deliveries.append(current().delivery_count)
        if current().headers.get("wait"):
            await asyncio.to_thread(self._gate.wait, 20.0)
            self._note("went on")
        return number

    @asynccontextmanager
    async def _lifespan(self, worker: Worker) -> AsyncIterator[None]:
        self._note(f"{worker.name} enter")
        try:
            yield
        finally:
            self._note("exit")

    def _up_at_once(self) -> None:
        self._note("up 1")

    async def _up(self) -> None:
        self._note("up 2")

    async def _down_async(self) -> None:
        self._note("down 1")

    def _note(self, line: str) -> None:
        self.lines.append(line)
        self.loops.add(asyncio.get_running_loop())
