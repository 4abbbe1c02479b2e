"""One phase of one execution: begins what may begin, sees how it ends, can be stopped.

Every call has an asyncio task of its own. What may begin next is begun by the callback of the last task it waits for,
so that nothing has to wake up in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

from tranship.stages._call import Call
from tranship.stages._cohort import Cohort
from tranship.stages._plan import Sweep

__all__ = ["Running"]


class Running:
    """A sweep under way.

    Args:
        sweep: what to call, in which order.
        ctx: what each function is given.
        failed: told of each call that ended with an exception: CancelledError too, when nobody here asked for it.
        context: callbacks run in it, and what they begin inherits it.
    """

    __slots__ = (
        "_busy",
        "_context",
        "_create",
        "_ctx",
        "_failed",
        "_loop",
        "_stopped",
        "_sweep",
        "_waiter",
        "_waits",
        "begun",
        "untouched",
    )

    def __init__(self, sweep: Sweep, ctx: Any, failed: Callable[[Call, BaseException], None], context: Context) -> None:
        self._sweep = sweep
        self._ctx = ctx
        self._failed = failed
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._create = _creator(self._loop)
        self._waits = list(sweep.graph.waits)
        self._busy: dict[Cohort, None] = {}
        self._stopped = False
        self._waiter: asyncio.Future[None] | None = None
        self.begun: set[int] = set()
        """The units whose turn has come."""
        self.untouched: set[str] = set()
        """The tasks that were stopped before their first step."""

    def start(self) -> None:
        """Begin what waits for nothing."""
        self._begin(list(self._sweep.graph.roots))

    async def finished(self) -> None:
        """Return when nothing runs any more. Cancelling this stops nothing; it may be called again."""
        while self._busy:
            self._waiter = self._loop.create_future()
            await self._waiter

    def stop(self) -> None:
        """Begin nothing more, and cancel what runs: once, for a function that tidies up is not to be disturbed."""
        if self._stopped:
            return
        self._stopped = True
        for cohort in self._busy:
            self.untouched.update(cohort.stop())

    def _begin(self, ready: list[int]) -> None:
        """Begin the units of ``ready``, and those that this opens at once."""
        for unit in ready:  # grows while it is read
            if self._stopped:
                return
            self.begun.add(unit)
            calls = self._sweep.calls[unit]
            if not calls:
                self._open(unit, ready)
                continue
            cohort = Cohort(unit, calls, self._failed, self._ended)
            self._busy[cohort] = None
            cohort.begin(self._create, self._loop, self._ctx, self._context)

    def _open(self, unit: int, ready: list[int]) -> None:
        waits = self._waits
        for follower in self._sweep.graph.opens[unit]:
            waits[follower] -= 1
            if not waits[follower]:
                ready.append(follower)

    def _ended(self, cohort: Cohort) -> None:
        del self._busy[cohort]
        ready: list[int] = []
        self._open(cohort.unit, ready)
        self._begin(ready)
        if not self._busy and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _creator(loop: asyncio.AbstractEventLoop) -> Callable[..., asyncio.Task[Any]]:
    """What makes an asyncio task: the class itself, unless the application has said otherwise."""
    if loop.get_task_factory() is None:
        return asyncio.Task

    def create(coroutine: Any, *, loop: asyncio.AbstractEventLoop, name: str) -> asyncio.Task[Any]:
        return loop.create_task(coroutine, name=name)

    return create
