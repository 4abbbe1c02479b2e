"""One batch on the handlers' loop: its members come together, its handler is called once, each gets its own result.

A member is called like any task, through middleware and with its own limit. What it calls, in place of a handler of its
own, waits here: the handler is called when every member has come so far or has ended before.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from functools import partial
from typing import Any

from tranship._signals import may_be_ctrl_c
from tranship.middleware import BatchRunCall, Middleware, chain_of
from tranship.task import BatchCall, BatchTask
from tranship.worker._dependencies import Dependencies, Given
from tranship.worker._forked import Origin
from tranship.worker._record import Run
from tranship.worker._threads import HandlerThreads, ThreadCall

__all__ = ["BatchRun", "Calls"]


class Calls:
    """Calls the handlers of batches, on the handlers' loop; made on the I/O loop.

    Args:
        threads: where those that are ``def`` run.
        dependencies: what they are given besides their calls.
        middleware: the worker's; its ``run_batch`` is around them.
    """

    def __init__(
        self, threads: HandlerThreads, dependencies: Dependencies, middleware: Sequence[Middleware] = ()
    ) -> None:
        self.threads = threads
        self.dependencies = dependencies
        self.around = chain_of(middleware, "run_batch")
        self.origin = Origin()


class BatchRun:
    """A batch whose members are known.

    Args:
        task: whose they are.
        members: in order.
        calls: calls the handler.
        context: what the handler runs in a copy of: it is none of its members.
    """

    def __init__(
        self, task: BatchTask[..., Any], members: Sequence[Run], calls: Calls, *, context: contextvars.Context
    ) -> None:
        self._task = task
        self._members = members
        self._calls = calls
        self._context = context
        self._missing = set(members)
        """Those that have neither come nor ended."""
        self._seats: dict[Run, BatchCall[Any]] = {}
        """Those that have come and not left."""
        self._over = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._thread: ThreadCall | None = None
        self._results: dict[Run, tuple[Any, Any]] = {}
        """What became of each: a result, or an error with its traceback."""

    def part(self, run: Run) -> BatchTask[..., Any]:
        """Return the task as a member calls it."""
        return self._task.calling(partial(self._join, run))

    def watch(self) -> None:
        """Hear of members that end without having come: a middleware may answer for the handler, or raise."""
        for run in self._members:
            if run.job is not None:
                run.job.add_done_callback(lambda _job, run=run: self._gone(run))  # type: ignore[misc]

    async def _join(self, run: Run, /, *args: Any, **kwargs: Any) -> Any:
        """Return or raise what the handler has for this member."""
        assert run.context is not None
        if self._work is not None:
            # A middleware calls once more.
            again = BatchRun(self._task, [run], self._calls, context=self._context)
            return await again._join(run, *args, **kwargs)
        self._seats[run] = BatchCall(run.context, args, kwargs)
        self._gone(run)
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            await self._leave(run)
            raise
        found, trace = self._results[run]
        if isinstance(found, BaseException):
            # Others may raise the same one.
            raise found.with_traceback(trace)
        return found

    def _gone(self, run: Run) -> None:
        """One more of them need not be waited for."""
        self._missing.discard(run)
        if not self._missing and self._work is None and self._seats:
            self._work = asyncio.get_running_loop().create_task(self._handle(), context=self._context.copy())

    async def _leave(self, run: Run) -> None:
        """A member is to stop, or its time is up: the others go on, and after the last one nobody does."""
        assert run.context is not None
        run.context.cancel((run.stopped or run.limit_means).value)
        self._seats.pop(run, None)
        work = self._work
        if self._seats or work is None or work.done():
            return
        work.cancel()
        await asyncio.wait({work})
        if self._thread is not None and not self._thread.done():
            # It goes on, and keeps a slot until it returns.
            run.thread_busy = self._thread

    async def _handle(self) -> None:
        """Call the handler, once."""
        given = Given(f"a batch of task {self._task.name}", self._in_thread, self._calls.threads.run)
        seats = dict(self._seats)
        try:
            returned = await self._through(list(seats.values()), given)
            items = self._task.one_each(returned, len(seats))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and may_be_ctrl_c():
                raise
            # Whatever a handler raises is an outcome, sys.exit() too.
            given.error = error
            items = [error] * len(seats)
        self._results = dict(zip(seats, map(_with_trace, items), strict=True))
        self._over.set()
        await given.close(given.error)

    async def _through(self, calls: Sequence[BatchCall[Any]], given: Given) -> Any:
        """Return or raise what comes out of middleware; a child that the handler forks is none of it."""

        async def innermost(_call: BatchRunCall | None) -> Any:
            try:
                returned = await self._called(calls, given)
            except BaseException as error:
                self._calls.origin.check(error)
                raise
            self._calls.origin.check()
            return returned

        around = self._calls.around
        if around is None:
            return await innermost(None)
        return await around(BatchRunCall(self._task.name, [one.context for one in calls]), innermost)

    async def _called(self, calls: Sequence[BatchCall[Any]], given: Given) -> Any:
        task, dependencies = self._task, self._calls.dependencies
        args: Sequence[Any] = [task.gathered(calls)]
        kwargs: Any = {}
        if dependencies.of_batch(task):
            args, kwargs = await dependencies.arguments(task, given, args, kwargs)
        call = partial(task.function, *args, **kwargs)
        returned = call() if task.is_coroutine else await self._in_thread(call)
        # It may be an async def behind a plain wrapper, too.
        return await returned if asyncio.iscoroutine(returned) else returned

    async def _in_thread(self, call: Any) -> Any:
        self._thread = thread = self._calls.threads.start(call)
        await thread.wait()
        return thread.result()


def _with_trace(item: Any) -> tuple[Any, Any]:
    return item, item.__traceback__ if isinstance(item, BaseException) else None
