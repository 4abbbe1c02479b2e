"""The tasks of one unit, while they run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from types import CoroutineType
from typing import Any

from tranship.stages._call import Call

__all__ = ["Cohort"]


class Cohort:
    """Begins the calls of a unit together, and counts them home.

    Args:
        unit: whose they are.
        calls: at least one.
        failed: told of each call that ended with an exception.
        ended: told when the last one has ended.
    """

    __slots__ = ("_asked", "_calls", "_ended", "_failed", "_left", "_tasks", "unit")

    def __init__(
        self,
        unit: int,
        calls: Sequence[Call],
        failed: Callable[[Call, BaseException], None],
        ended: Callable[[Cohort], None],
    ) -> None:
        self.unit = unit
        self._calls = calls
        self._failed = failed
        self._ended = ended
        self._left = len(calls)
        self._tasks: dict[asyncio.Task[Any], Call] = {}
        self._asked: set[asyncio.Task[Any]] = set()

    def begin(
        self, create: Callable[..., asyncio.Task[Any]], loop: asyncio.AbstractEventLoop, ctx: Any, context: Context
    ) -> None:
        """Begin each call in a task of its own, made by ``create``; callbacks run in ``context``."""
        tasks, done = self._tasks, self._done
        for call in self._calls:
            try:
                task = create(call.begin(ctx), loop=loop, name=call.label)
            except BaseException as error:  # noqa: BLE001 - what cannot even be called has failed like any other
                loop.call_soon(self._refused, call, error, context=context)
            else:
                tasks[task] = call
                task.add_done_callback(done, context=context)

    def stop(self) -> Iterator[str]:
        """Cancel what runs; yield the names of those that had not taken their first step, and now never will."""
        for task, call in self._tasks.items():
            if task.done():
                continue
            untouched = _is_untouched(task)
            if task.cancel():
                self._asked.add(task)
                if untouched:
                    yield call.task

    def _done(self, task: asyncio.Task[Any]) -> None:
        try:
            error = task.exception()
        except asyncio.CancelledError as cancelled:
            error = None if task in self._asked else cancelled
        if error is not None:
            self._failed(self._tasks[task], error)
        self._left -= 1
        if not self._left:
            self._ended(self)

    def _refused(self, call: Call, error: BaseException) -> None:
        self._failed(call, error)
        self._left -= 1
        if not self._left:
            self._ended(self)


def _is_untouched(task: asyncio.Task[Any]) -> bool:
    coroutine = task.get_coro()
    return isinstance(coroutine, CoroutineType) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
