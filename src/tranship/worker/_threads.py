"""Threads for ``def`` handlers.

Not a ThreadPoolExecutor: the interpreter joins its threads at exit, so one handler that never returns would
keep a worker alive for ever after its hard stop. These are daemon threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["HandlerThreads"]

_Call = tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], contextvars.Context, Callable[[], Any]]


class HandlerThreads:
    """Runs functions in threads that are reused; as many as run at once. Used from one event loop."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._idle = 0
        self._threads = 0
        self._lock = threading.Lock()

    def start(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run ``function`` in a thread, in a copy of the current context.

        Cancelling the future does not reach the thread.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            if self._idle == 0:
                self._threads += 1
                threading.Thread(target=self._serve, name=f"tranship-task-{self._threads}", daemon=True).start()
            else:
                self._idle -= 1
        self._calls.put((loop, future, contextvars.copy_context(), function))
        return future

    def stop(self) -> None:
        """Let idle threads end; busy ones end with their function, or with the process."""
        with self._lock:
            for _ in range(self._threads):
                self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            loop, future, context, function = call
            try:
                value, error = context.run(function), None
            except BaseException as caught:  # noqa: BLE001 - whatever a handler raises is its outcome
                value, error = None, caught
            del call, context, function
            with self._lock:
                self._idle += 1
            _answer(loop, future, value, error)
            del value, error, future


def _answer(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], value: Any, error: BaseException | None
) -> None:
    if isinstance(error, StopIteration):
        # A future cannot hold it.
        stopped, error = error, RuntimeError("the handler raised StopIteration")
        error.__cause__ = stopped

    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    # After a hard stop the loop may be closed; nobody waits any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)
