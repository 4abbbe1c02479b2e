"""One execution of a plan: set up, work, clean up whatever happened, and say all that went wrong."""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from typing import Any, Final

from tranship.stages._call import Call
from tranship.stages._errors import PhaseCancelled
from tranship.stages._plan import Plan, Sweep
from tranship.stages._sweep import Running

__all__ = ["Execution"]

log: Final = logging.getLogger("tranship.stages")

SHOWN: Final = 5
"""Failures that the message of a group names."""


class Execution:
    """Runs ``plan`` once, with ``ctx``. Nothing of it is shared with other executions."""

    __slots__ = ("_cancelled", "_context", "_ctx", "_errors", "_plan", "_running", "_where")

    def __init__(self, plan: Plan, ctx: Any) -> None:
        self._plan = plan
        self._ctx = ctx
        self._context = copy_context()
        self._errors: list[BaseException] = []
        self._where: list[str] = []
        self._cancelled: asyncio.CancelledError | None = None
        self._running: Running | None = None

    async def run(self) -> None:
        """Raise what went wrong, after the cleanup."""
        begun = await self._forward(self._plan.pre)
        if not self._failing and not self._plan.execute.idle:
            await self._forward(self._plan.execute)
        if not self._plan.post.idle:
            await self._clean(self._plan.post if begun is None else _only(self._plan.post, begun))
        self._raise()

    @property
    def _failing(self) -> bool:
        return bool(self._errors) or self._cancelled is not None

    async def _forward(self, sweep: Sweep) -> Running | None:
        """Run a phase that a failure stops; return it if not all of it was begun."""
        if sweep.idle:
            return None
        running = self._running = Running(sweep, self._ctx, self._failed, self._context)
        running.start()
        await self._wait(running)
        self._running = None
        return running if self._failing else None

    async def _clean(self, sweep: Sweep) -> None:
        """Run the cleanup: nothing stops it, neither a failure nor a cancellation of ours."""
        running = Running(sweep, self._ctx, self._note, self._context)
        running.start()
        await self._wait(running)

    async def _wait(self, running: Running) -> None:
        while True:
            try:
                return await running.finished()
            except asyncio.CancelledError as error:
                # Kept, and raised at the end. Nobody is told sooner: an uncancel() is not ours to do.
                self._cancelled = self._cancelled or error
                if self._running is running:
                    running.stop()

    def _failed(self, call: Call, error: BaseException) -> None:
        self._note(call, error)
        if self._running is not None:
            self._running.stop()

    def _note(self, call: Call, error: BaseException) -> None:
        where = f"{call.phase.value} of task {call.task!r}"
        if isinstance(error, asyncio.CancelledError):
            error, cause = PhaseCancelled(f"{where} was cancelled, but not by this run"), error
            error.__cause__ = cause
        self._where.append(where)
        self._errors.append(_noted(error, f"in {where}"))

    def _raise(self) -> None:
        group = self._group() if self._errors else None
        if self._cancelled is not None:
            if group is not None:
                log.warning("cancelled, and meanwhile: %s", group, exc_info=group)
            raise self._cancelled from group
        if group is None:
            return
        fatal = next((one for one in self._errors if isinstance(one, KeyboardInterrupt | SystemExit)), None)
        if fatal is not None:
            raise fatal from group
        raise group

    def _group(self) -> BaseExceptionGroup[BaseException]:
        shown = ", ".join(self._where[:SHOWN]) + (", ..." if len(self._where) > SHOWN else "")
        return BaseExceptionGroup(f"failed: {shown}", self._errors)


def _only(sweep: Sweep, begun: Running) -> Sweep:
    """The part of ``sweep`` that cleans up what was begun."""
    calls = tuple(
        tuple(call for call in calls if call.task not in begun.untouched) if unit in begun.begun else ()
        for unit, calls in enumerate(sweep.calls)
    )
    return Sweep(sweep.graph, calls)


def _noted(error: BaseException, note: str) -> BaseException:
    # The same exception object may come out of several functions, or of several executions.
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error
