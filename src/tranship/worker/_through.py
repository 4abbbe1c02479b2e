"""Handlers and endings that pass through middleware; workers without any never come here."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tranship.envelope import Claim, Ending
from tranship.errors import InvalidArgumentsError, TaskError
from tranship.middleware import Chain, Middleware, RunCall, SettleCall, chain_of
from tranship.task import Task
from tranship.worker._record import Run

__all__ = ["Ends", "Runs", "ends_of", "runs_of"]

log = logging.getLogger("tranship.worker")

LONGEST: Final = 30.0
"""Seconds that the middleware around an ending may take."""
_UNTOLD: Final = (Ending.RELEASED, Ending.LOST, Ending.ANSWERED)
"""Nothing new is written: it comes again, or has come before."""

InThread = Callable[[Run, Callable[[], Any]], Awaitable[Any]]
InProcess = Callable[[Run, Task[..., Any], Any, Any], Awaitable[Any]]


class Runs:
    """Calls handlers through the ``run`` of middleware, on the handlers' loop.

    Args:
        chain: the middleware.
        in_thread: calls a ``def`` handler in a thread and returns or raises what it does.
        in_process: the same with an isolated task and its arguments, in a process.
    """

    def __init__(self, chain: Chain[RunCall, Any], in_thread: InThread, in_process: InProcess) -> None:
        self._chain = chain
        self._in_thread = in_thread
        self._in_process = in_process

    async def call(self, run: Run, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return what comes out of it; raises what the handler or a middleware raises."""
        assert run.context is not None
        assert run.task is not None
        handler = run.task
        claimed = Claim.of(args) is not None

        async def innermost(call: RunCall) -> Any:
            if claimed:
                call = _checked(run, handler, call)
            if handler.isolation is not None:
                return await self._in_process(run, handler, call.args, call.kwargs)
            if handler.is_async:
                return await handler.function(*call.args, **call.kwargs)
            value = await self._in_thread(run, lambda: handler.function(*call.args, **call.kwargs))
            return await value if inspect.isawaitable(value) else value

        return await self._chain(RunCall(run.context, args, kwargs), innermost)


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


def runs_of(middleware: Sequence[Middleware], in_thread: InThread, in_process: InProcess) -> Runs | None:
    """Return what calls handlers; None: nothing is around them."""
    chain = chain_of(middleware, "run")
    return None if chain is None else Runs(chain, in_thread, in_process)


class Ends:
    """Takes decided deliveries through the ``settle`` of middleware, on the handlers' loop."""

    def __init__(self, chain: Chain[SettleCall, None]) -> None:
        self._chain = chain

    async def pass_through(self, run: Run) -> None:
        """Let the middleware see how ``run`` ends, and change its value or its error. Never raises ``Exception``."""
        if run.outcome is None or run.envelope is None or run.outcome in _UNTOLD or _is_early(run):
            return
        duration = time.monotonic() - run.began if run.started else None
        call = SettleCall(run.envelope, run.outcome, run.value, run.error, run.delay, duration)
        decided: list[SettleCall] = []

        async def innermost(changed: SettleCall) -> None:
            decided[:] = [changed]

        try:
            async with asyncio.timeout(LONGEST):
                await self._chain(call, innermost)
        except Exception:
            log.exception("middleware failed around the end of task %s: it ends as it was decided", run.id)
            return
        if decided:
            run.value, run.error = decided[0].value, decided[0].error


def ends_of(middleware: Sequence[Middleware]) -> Ends | None:
    """Return what endings pass through; None: nothing is around them."""
    chain = chain_of(middleware, "settle")
    return None if chain is None else Ends(chain)


def _is_early(run: Run) -> bool:
    """Whether it only goes back on the schedule."""
    return run.outcome is Ending.RETRY and not run.started
