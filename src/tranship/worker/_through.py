"""Handlers with middleware or dependencies, and endings with middleware; workers without any never come here."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tranship._signals import may_be_ctrl_c
from tranship.envelope import Claim, Ending, ErrorInfo
from tranship.errors import ConfigurationError, InvalidArgumentsError, TaskError
from tranship.middleware import Chain, Middleware, RunCall, SettleCall, chain_of
from tranship.task import Task
from tranship.worker._cancelling import being_cancelled
from tranship.worker._dependencies import Dependencies, Given
from tranship.worker._forked import Origin
from tranship.worker._record import Run

__all__ = ["Ends", "Runs", "ends_of", "runs_of"]

log = logging.getLogger("tranship.worker")

LONGEST: Final = 30.0
"""Seconds that the middleware around an ending may take."""
_UNTOLD: Final = (Ending.RELEASED, Ending.LOST, Ending.ANSWERED, Ending.HELD)
"""Nothing new is written: it comes again, or has come before."""

InThread = Callable[[Run, Callable[[], Any]], Awaitable[Any]]
InProcess = Callable[[Run, Task[..., Any], Any, Any], Awaitable[Any]]


class Runs:
    """Calls handlers through the ``run`` of middleware, with what they depend on, on the handlers' loop.

    Args:
        chain: the middleware; it may be empty.
        dependencies: what handlers are given.
        in_thread: calls a ``def`` handler in a thread and returns or raises what it does.
        in_process: the same with an isolated task and its arguments, in a process.
    """

    def __init__(
        self, chain: Chain[RunCall, Any], dependencies: Dependencies, in_thread: InThread, in_process: InProcess
    ) -> None:
        self._chain = chain
        self._dependencies = dependencies
        self._in_thread = in_thread
        self._in_process = in_process
        self._origin = Origin()

    async def call(self, run: Run, args: Sequence[Any], kwargs: Mapping[str, Any], given: Given | None = None) -> Any:
        """Return what comes out of it; raises what the handler, a provider or a middleware raises.

        Args:
            run, args, kwargs: what is called, with what.
            given: where it is put down what has to be cleaned up; None: the task has no dependencies.
        """
        assert run.context is not None
        assert run.task is not None
        handler = run.task
        claimed = Claim.of(args) is not None

        async def innermost(call: RunCall) -> Any:
            if claimed:
                call = _checked(run, handler, call)
            if given is None:
                return await self._handle(run, handler, call.args, call.kwargs)
            try:
                args, kwargs = await self._dependencies.arguments(handler, given, call.args, call.kwargs)
                if run.stopped is not None:
                    # A thread that provided something is waited for.
                    raise asyncio.CancelledError  # noqa: TRY301 - generators are to see it
                return await self._handle(run, handler, args, kwargs)
            except BaseException as error:
                given.error = error
                raise

        return await self._chain(RunCall(run.context, args, kwargs), innermost)

    async def _handle(self, run: Run, handler: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if handler.isolation is not None:
            return await self._in_process(run, handler, args, kwargs)
        if handler.is_async:
            return await self._alone(handler.function(*args, **kwargs))
        value = await self._in_thread(run, lambda: handler.function(*args, **kwargs))
        return await value if inspect.isawaitable(value) else value

    async def _alone(self, handling: Awaitable[Any]) -> Any:
        """Return or raise what a handler does; a child that it forks is none of the middleware's."""
        try:
            value = await handling
        except BaseException as error:
            self._origin.check(error)
            raise
        self._origin.check()
        return value


def _checked(run: Run, handler: Task[..., Any], call: RunCall) -> RunCall:
    """Return the call with what a middleware has fetched, made ready for the handler as all arguments are."""
    assert run.id is not None
    if (claim := Claim.of(call.args)) is not None:
        raise claim.unclaimed(f"the body of task {run.id}", "the worker", run.id)
    try:
        args, kwargs = handler.coerce(call.args, call.kwargs)
    except InvalidArgumentsError as error:
        # They will not fit the next time.
        raise TaskError(str(error), error.code, type(error).__name__, retryable=False) from None
    return replace(call, args=args, kwargs=kwargs)


def runs_of(
    middleware: Sequence[Middleware], dependencies: Dependencies, in_thread: InThread, in_process: InProcess
) -> Runs | None:
    """Return what calls handlers; None: nothing is around them, and they depend on nothing."""
    chain = chain_of(middleware, "run")
    if chain is None and not dependencies:
        return None
    return Runs(chain or Chain((), "run"), dependencies, in_thread, in_process)


class Ends:
    """Takes decided deliveries through the ``settle`` of middleware, on the handlers' loop."""

    def __init__(self, chain: Chain[SettleCall, None]) -> None:
        self._chain = chain

    async def pass_through(self, run: Run) -> None:
        """Let the middleware see how ``run`` ends, and change its value or its error. Raises nothing of
        theirs.
        """
        if run.outcome is None or run.envelope is None or run.outcome in _UNTOLD or _is_early(run):
            return
        duration = time.monotonic() - run.began if run.started else None
        call = SettleCall(run.envelope, run.outcome, run.value, run.error, run.delay, duration, run.status, run.snoozed)
        decided: list[SettleCall] = []

        async def innermost(changed: SettleCall) -> None:
            _check_error(call.error, changed.error)
            decided[:] = [changed]

        try:
            async with asyncio.timeout(LONGEST):
                await self._chain(call, innermost)
        except BaseException as error:
            # What leaves the interpreter is the middleware's failure, as a handler's would be.
            stops = isinstance(error, asyncio.CancelledError) and being_cancelled()
            if stops or (isinstance(error, KeyboardInterrupt) and may_be_ctrl_c()):
                raise
            log.exception("middleware failed around the end of task %s: it ends as it was decided", run.id)
            return
        if decided:
            run.value, run.error = decided[0].value, decided[0].error


def ends_of(middleware: Sequence[Middleware]) -> Ends | None:
    """Return what endings pass through; None: nothing is around them."""
    chain = chain_of(middleware, "settle")
    return None if chain is None else Ends(chain)


def _check_error(decided: ErrorInfo | None, changed: Any) -> None:
    """Raise ConfigurationError for an error that cannot stand in for that of the decision."""
    if not isinstance(changed, ErrorInfo) and (changed is not None or decided is not None):
        raise ConfigurationError(f"the settle of a middleware made {changed!r} of the error; expected an ErrorInfo")


def _is_early(run: Run) -> bool:
    """Whether it only goes back on the schedule."""
    return run.outcome is Ending.RETRY and not run.started
