"""Where handlers run: on the loop of whoever calls ``serve()``, which they may block. The rest is on the I/O loop.

What goes from one to the other goes through lanes: whatever one turn of a loop brings wakes the other once.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from tranship.worker._caller import Caller
from tranship.worker._io import IOLoop
from tranship.worker._record import Run, Stop
from tranship.worker._report import Reporter
from tranship.worker._through import Ends

__all__ = ["Handlers"]

log = logging.getLogger("tranship.worker")

T = TypeVar("T")


class _Lane(Generic[T]):
    """From one loop to another, in order and in batches.

    Args:
        call: has the other loop call something once the current turn of this one is over.
        sink: called on the other loop with each item; does not raise.
    """

    def __init__(self, call: Callable[[Callable[[], None]], None], sink: Callable[[T], None]) -> None:
        self._call = call
        self._sink = sink
        self._items: collections.deque[T] = collections.deque()
        self._called = False

    def put(self, item: T) -> None:
        self._items.append(item)
        if not self._called:
            self._called = True
            self._call(self._take)

    def _take(self) -> None:
        # The flag falls first: what is put while items are taken calls again.
        self._called = False
        for _ in range(len(self._items)):
            self._sink(self._items.popleft())


class Handlers:
    """Runs the handlers of one worker. Used on the I/O loop.

    Args:
        io: the I/O loop; they run on the loop beside it.
        caller: calls them.
        reporter: writes down how they ended, where they run: it is their values that are encoded.
        ended: called on the I/O loop with each run that has ended.
        freed: called on the I/O loop with each run that takes no slot any more; after ``ended``.
        ends: the middleware that endings pass through; None: none.

    Attributes:
        latest: the last to begin.
    """

    def __init__(
        self,
        io: IOLoop,
        *,
        caller: Caller,
        reporter: Reporter,
        ended: Callable[[Run], None],
        freed: Callable[[Run], None],
        ends: Ends | None = None,
    ) -> None:
        self._io = io
        self._ends = ends
        self.latest: Run | None = None
        self._context = contextvars.copy_context()
        self._caller = caller
        self._reporter = reporter
        self._ended = ended
        self._freed = freed
        self._there: _Lane[tuple[Run, Stop | None]] = _Lane(io.to_handlers, self._arrived)
        self._back: _Lane[tuple[Run, bool]] = _Lane(io.to_io, self._returned)

    # On the I/O loop.

    @property
    def takes_endings(self) -> bool:
        """Whether deliveries whose outcome is decided are to be started as well: middleware is to see their end."""
        return self._ends is not None

    def start(self, run: Run) -> None:
        """Have the handler of ``run``, which was admitted, run."""
        run.handed = True
        if self._io.beside():
            run.job = self._io.handlers.create_task(self._one(run), context=self._context.copy())
        else:
            self._there.put((run, None))

    def stop(self, run: Run, why: Stop) -> None:
        """Tell ``run`` to stop. A handler that blocks its loop can look at its context."""
        if run.tell(why) and run.handed:
            self._there.put((run, why))

    def _returned(self, item: tuple[Run, bool]) -> None:
        run, ended = item
        if ended:
            self._ended(run)
        if not ended or run.thread_busy is None:
            self._freed(run)

    # On the handlers' loop.

    def _arrived(self, item: tuple[Run, Stop | None]) -> None:
        run, why = item
        if why is None:
            run.job = self._io.handlers.create_task(self._one(run))
        else:
            run.interrupt()

    async def _one(self, run: Run) -> None:
        self.latest = run
        try:
            if run.outcome is None:
                await self._caller.call(run)
            if self._ends is not None:
                await self._ends.pass_through(run)
            if run.sequel is not None and run.sequel.large:
                # Thousands of steps take seconds, and other handlers go on meanwhile.
                run.settlement = await asyncio.to_thread(self._reporter.settlement, run)
            else:
                run.settlement = self._reporter.settlement(run)
            if run.sequel is not None and self._reporter.canvas is not None:
                await self._reporter.canvas.call_errbacks(run, run.sequel)
        except Exception:
            # A bug of ours: leave the delivery to its lease rather than lose it.
            log.exception("running task %s failed in the worker itself", run.id)
            run.broken = True
        except BaseException:
            run.broken = True
            raise
        finally:
            self._return(run)

    def _return(self, run: Run) -> None:
        busy = run.thread_busy
        if busy is not None and busy.done():
            busy = run.thread_busy = None
        if busy is not None:
            busy.add_done_callback(lambda _: self._thread_ended(run))
        elif run.context is not None:
            run.context.ended = True
        self._back.put((run, True))

    def _thread_ended(self, run: Run) -> None:
        if run.context is not None:
            # What the handler has left behind cannot take the task for running any more.
            run.context.ended = True
        self._back.put((run, False))
