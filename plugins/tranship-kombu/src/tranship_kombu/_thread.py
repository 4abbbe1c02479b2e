"""One thread that does one thing after the other: kombu blocks, and its connections are for one thread."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["OneThread"]

T = TypeVar("T")


class OneThread:
    """Runs what it is given, in order, for the event loop that it was made on.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    async def run(self, work: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
        """Do ``work`` and return what it gives, or raise what it raises.

        Args:
            work: called in the thread.
            undo: called in the thread with what ``work`` gave, where nobody waits for it any more.
        """
        job = _Job(work, self._loop)
        self._jobs.put(job)
        try:
            return await asyncio.shield(job.outcome)
        except asyncio.CancelledError:
            if undo is not None:
                self._jobs.put(_Job(lambda: job.undo(undo), self._loop))
            raise

    def later(self, work: Callable[[], object]) -> None:
        """Do ``work`` when it is its turn; nobody waits for it."""
        self._jobs.put(_Job(work, self._loop))

    def end(self) -> None:
        """End the thread after what it was given so far."""
        self._jobs.put(None)

    async def ended(self) -> None:
        """Return when the thread has ended."""
        await asyncio.shield(self._ended)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.do()
        _tell(self._loop, self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


class _Job(Generic[T]):
    """Something to do, and what comes of it."""

    def __init__(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self._work, self._loop = work, loop
        self.outcome: asyncio.Future[T] = loop.create_future()
        self._result: list[T] = []

    def do(self) -> None:
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told to who waits
            failure = error
            _tell(self._loop, lambda: self._failed(failure))
        else:
            self._result.append(result)
            _tell(self._loop, lambda: self._done(result))

    def undo(self, undo: Callable[[T], None]) -> None:
        """Take back what was done; it is done by now, as the thread does one thing after the other."""
        for result in self._result:
            undo(result)

    def _done(self, result: T) -> None:
        if not self.outcome.done():
            self.outcome.set_result(result)

    def _failed(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
            # Who has gone meanwhile does not look at it.
            self.outcome.exception()


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    # The loop may have been closed: then there is nobody to tell.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)
