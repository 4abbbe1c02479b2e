"""The handler of a delivery that was admitted: called, limited in time, and its outcome decided.

It is called on the loop, in a thread or in a process, through whatever middleware there is. Reporting and settling come
after (``_report``). Nothing here is retried.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tranship._signals import may_be_ctrl_c
from tranship.envelope import Claim, Ending, Envelope
from tranship.errors import InvalidArgumentsError, ProcessDied
from tranship.middleware import Middleware, chain_of
from tranship.task import Dialect, Durable, HotCache, Task, TaskContext, Telling, activate
from tranship.worker._cancelling import being_cancelled, uncancel
from tranship.worker._cancels import Cancels
from tranship.worker._classify import classify, returned, stopped
from tranship.worker._dependencies import Dependencies, Given
from tranship.worker._describe import describe_final
from tranship.worker._forked import Origin
from tranship.worker._record import Run, Stop
from tranship.worker._threads import HandlerThreads, ThreadCall
from tranship.worker._through import Runs, runs_of

if TYPE_CHECKING:
    from tranship.worker._isolated_process import Ended
    from tranship.worker._isolation import Isolation

__all__ = ["Caller"]

log = logging.getLogger("tranship.worker")

GRACE: Final = 0.5
"""Seconds that a thread gets to notice that its time is up."""


class Caller:
    """Calls handlers, on their loop; made on the I/O loop.

    Args:
        cancels: what is known to be cancelled.
        threads: where ``def`` handlers run.
        dependencies: what handlers are given besides their arguments.
        isolation: the processes of isolated tasks; None: there are no such tasks.
        hot_cache: what handlers find in their context; None: each its own.
        tell: returns what takes what a run tells; None: nothing does.
        durably: returns what keeps the steps of a run; None: nothing does.
        middleware: what handlers are called through.

    Attributes:
        longest: seconds that an attempt of a task without a limit of its own may run, because the broker would take
            it back; None: as long as it takes.
        limits: seconds for each attempt of a task, by its name, that go before its own; replaced as a whole. None:
            there are none.
    """

    def __init__(
        self,
        cancels: Cancels,
        threads: HandlerThreads,
        *,
        dependencies: Dependencies,
        isolation: Isolation | None = None,
        hot_cache: HotCache | None = None,
        tell: Callable[[Envelope], Telling | None] | None = None,
        durably: Callable[[TaskContext], Durable] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._cancels = cancels
        self._threads = threads
        self._origin = Origin()
        self._isolation = isolation
        self._hot_cache = hot_cache
        self._tell, self._durably = tell, durably
        self._dependencies = dependencies
        self._through = runs_of(middleware, dependencies, self._in_thread, self._in_process)
        self._around_all = chain_of(middleware, "run") is not None
        self._cleaning: set[asyncio.Task[None]] = set()
        self._io = asyncio.get_running_loop()
        self.longest: float | None = None
        self.limits: Mapping[str, float] | None = None

    async def call(self, run: Run) -> None:
        """Call the handler of what was admitted, where handlers run: then there is an outcome."""
        try:
            if run.stopped is None:
                await self._call(run)
            else:
                stopped(run, run.stopped)
        except asyncio.CancelledError:
            self._interrupted(run)

    async def _call(self, run: Run) -> None:
        envelope, handler = run.envelope, run.task
        assert envelope is not None
        assert handler is not None
        try:
            args, kwargs = self._arguments(envelope, handler)
        except InvalidArgumentsError as error:
            run.end(Ending.FAILED, describe_final(error))
            return
        except BaseException as error:  # noqa: BLE001 - a model's own code may raise anything
            classify(run, error)
            return
        count = run.delivery.delivery_count
        run.context = TaskContext(
            envelope,
            delivery_count=count,
            ahead=run.ahead,
            hot_cache=self._hot_cache,
            tell=self._tell,
            durably=self._durably,
        )
        run.began = time.monotonic()
        run.started = True
        ordered = self.limits and self.limits.get(envelope.task)
        _set_limit(run, ordered or envelope.run_timeout or self.longest)
        # Every delivery has an asyncio task, and so a context, of its own: nothing to restore.
        activate(run.context)
        if handler.dialect is not None and await self._dealt_with(run, handler.dialect, run.context):
            return
        if (through := self._through) is not None and handler in self._dependencies:
            await self._call_provided(run, through, args, kwargs)
        elif through is not None and self._around_all:
            await self._call_async(run, lambda: through.call(run, args, kwargs))
        elif handler.isolation is not None:
            await self._call_process(run, handler, args, kwargs)
        elif handler.is_async:
            await self._call_async(run, partial(handler.function, *args, **kwargs))
        else:
            await self._call_thread(run, partial(handler.function, *args, **kwargs))

    def _arguments(self, envelope: Envelope, handler: Task[..., Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        claim = Claim.of(envelope.args)
        if claim is None:
            return handler.coerce(envelope.args, envelope.kwargs)
        if self._through is None:
            raise claim.unclaimed(f"the body of task {envelope.id}", "the worker", envelope.id)
        # Checked when a middleware has fetched them.
        return envelope.args, envelope.kwargs

    async def _dealt_with(self, run: Run, dialect: Dialect, context: TaskContext) -> bool:
        """Whether the task needs no handler."""
        try:
            run.value = await dialect.admit(context, partial(self._heed, run))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - as what a handler raises
            classify(run, error)
            return True
        if run.value is None:
            return False
        run.end(Ending.SUCCEEDED)
        return True

    async def _heed(self, run: Run, key: str) -> bool:
        assert run.envelope is not None
        run.envelope = replace(run.envelope, cancel_key=key)
        asking = asyncio.run_coroutine_threadsafe(self._cancels.covers_key(key), self._io)
        return await asyncio.wrap_future(asking)

    async def _call_async(self, run: Run, call: Callable[[], Any]) -> None:
        scope = None
        try:
            if run.limit is None:
                run.value = await call()
            else:
                async with asyncio.timeout(run.limit) as scope:
                    run.value = await call()
        except asyncio.CancelledError as error:
            self._origin.check(error)
            raise
        except BaseException as error:
            self._origin.check(error)
            # Whatever a handler raises is its outcome, sys.exit() too.
            if isinstance(error, KeyboardInterrupt) and may_be_ctrl_c():
                raise
            if isinstance(error, TimeoutError) and scope is not None and scope.expired():
                stopped(run, run.limit_means)
            else:
                classify(run, error)
        else:
            self._origin.check()
            returned(run)

    async def _call_provided(self, run: Run, through: Runs, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """What it is given is cleaned up once its outcome is decided, which nothing changes any more."""
        given = Given(f"task {run.id}", partial(self._in_thread, run), self._threads.run)
        try:
            await self._call_async(run, lambda: through.call(run, args, kwargs, given))
        except asyncio.CancelledError:
            self._interrupted(run)
        finally:
            busy = run.thread_busy
            if busy is None or busy.done():
                await given.close(given.error)
            else:
                # Its time was up, and it goes on: nothing is closed under it.
                busy.add_done_callback(lambda _: self._clean_later(given))

    def _clean_later(self, given: Given) -> None:
        cleaning = asyncio.get_running_loop().create_task(given.close(given.error))
        self._cleaning.add(cleaning)
        cleaning.add_done_callback(self._cleaning.discard)

    async def _call_process(self, run: Run, handler: Task[..., Any], args: Any, kwargs: Any) -> None:
        """A thread waits for the process, and ends it when its time is up, even while something blocks this loop."""
        try:
            ended = await self._ended_process(run, handler, args, kwargs, run.limit)
        except asyncio.CancelledError:
            raise
        except InvalidArgumentsError as error:
            run.end(Ending.FAILED, describe_final(error))
        except Exception as error:  # noqa: BLE001 - as what a handler raises
            classify(run, error)
        else:
            _concluded(run, ended)

    async def _in_process(self, run: Run, handler: Task[..., Any], args: Any, kwargs: Any) -> Any:
        """The same inside of middleware, whose limit is its own: return or raise what the handler does."""
        ended = await self._ended_process(run, handler, args, kwargs, None)
        if ended.died:
            raise ProcessDied(_how(run, ended))
        if (error := ended.error()) is not None:
            raise error
        return ended.value

    async def _ended_process(
        self, run: Run, handler: Task[..., Any], args: Any, kwargs: Any, limit: float | None
    ) -> Ended:
        assert run.context is not None
        assert self._isolation is not None
        call = self._isolation.call(run.context, handler, args, kwargs, ahead=run.ahead)
        run.isolated = call
        if run.stopped is not None:
            call.end()
        run.thread_busy = thread = self._threads.start(partial(call.run, limit))
        interrupted = False
        while not thread.done():
            try:
                await thread.wait()
            except asyncio.CancelledError:
                # It has ended within moments: until then its slot is taken.
                interrupted = True
                call.end()
        run.thread_busy = None
        if interrupted or run.stopped is not None:
            raise asyncio.CancelledError
        ended: Ended = thread.result()
        return ended

    async def _call_thread(self, run: Run, call: Callable[[], Any]) -> None:
        run.thread_busy = thread = self._threads.start(call)
        await self._wait_for_thread(run, thread, run.limit)
        if not thread.done():
            await self._end_thread(run, thread)
            return
        run.thread_busy = None
        error = thread.exception()
        if run.stopped not in (None, Stop.CANCELLED):
            # It looked at its context before we heard that it is to stop.
            stopped(run, run.stopped)
        elif error is not None:
            classify(run, error)
            return
        value = run.value = thread.result()
        if inspect.isawaitable(value):
            # An async def behind a plain wrapper: the limit and the retries are its own.
            await self._call_async(run, lambda: value)
        else:
            returned(run)

    async def _in_thread(self, run: Run, call: Callable[[], Any]) -> Any:
        """The same inside of middleware, whose limit is its own: return or raise what the thread does."""
        thread = run.thread_busy = self._threads.start(call)
        try:
            await self._wait_for_thread(run, thread, None)
        except asyncio.CancelledError:
            if run.stopped is None and run.limit is not None:
                await self._leave_thread(run, thread)
            raise
        run.thread_busy = None
        if run.stopped not in (None, Stop.CANCELLED):
            # It looked at its context before we heard that it is to stop.
            raise asyncio.CancelledError
        return thread.result()

    async def _wait_for_thread(self, run: Run, thread: ThreadCall, limit: float | None) -> None:
        """Wait for the thread, ``limit`` seconds at most. A cancel is the handler's to notice."""
        end = None if limit is None else time.monotonic() + limit
        told = False
        while not thread.done():
            try:
                await thread.wait(None if end is None else end - time.monotonic())
            except asyncio.CancelledError:
                if told or run.stopped is not Stop.CANCELLED:
                    raise
                # Once: the second time the worker itself has to stop.
                told = True
                uncancel()
                continue
            if end is not None and time.monotonic() >= end:
                return

    async def _end_thread(self, run: Run, thread: ThreadCall) -> None:
        """The time is up: its outcome is decided without the thread."""
        await self._leave_thread(run, thread)
        stopped(run, run.limit_means)

    async def _leave_thread(self, run: Run, thread: ThreadCall) -> None:
        """The time is up: a handler that looks gets a moment to notice."""
        why = run.limit_means
        if run.context is not None:
            run.context.cancel(why.value)
        await thread.wait(GRACE)
        if not thread.done():
            log.warning(
                "task %s (%s) did not stop at its %s; its thread goes on and keeps its slot until it returns",
                run.id,
                run.envelope and run.envelope.task,
                why.value,
            )

    # Interrupted.

    def _interrupted(self, run: Run) -> None:
        if run.stopped is not None:
            uncancel()
            if run.envelope is None:
                run.end(Ending.RELEASED)
            else:
                stopped(run, run.stopped)
        elif being_cancelled():
            raise asyncio.CancelledError
        else:
            # The handler itself raised CancelledError; nobody asked it to.
            classify(run, asyncio.CancelledError("the handler raised CancelledError by itself"))


def _concluded(run: Run, ended: Ended) -> None:
    """Decide the outcome of a call in a process of its own."""
    if ended.too_long:
        stopped(run, run.limit_means)
    elif ended.died:
        classify(run, ProcessDied(_how(run, ended)))
    elif (error := ended.error()) is None:
        run.value = ended.value
        returned(run)
    else:
        classify(run, error)
        if run.error is not None:
            run.error = replace(run.error, traceback=ended.trace)


def _how(run: Run, ended: Ended) -> str:
    return f"the process of task {run.id} ended before its result was there: {ended.died}"


def _set_limit(run: Run, timeout: float | None) -> None:
    """How long this attempt may run, and what it means when the time is up."""
    left = run.seconds_left()
    if timeout is not None and (left is None or timeout <= left):
        run.limit, run.limit_means = timeout, Stop.TIMEOUT
    else:
        run.limit, run.limit_means = left, Stop.DEADLINE
