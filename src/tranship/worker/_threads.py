"""Threads for ``def`` handlers.

Not a ThreadPoolExecutor: the interpreter joins its threads at exit, so one handler that never returns would
keep a worker alive for ever after its hard stop. These are daemon threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

from tranship.timers import Sleeper
from tranship.worker._forked import Origin

__all__ = ["HandlerThreads", "ThreadCall"]


class ThreadCall:
    """A function at work in a thread. Who waits for it may be cancelled; the function goes on.

    Used on the event loop on which it was started; one waits at a time.
    """

    __slots__ = ("_callbacks", "_context", "_done", "_error", "_function", "_loop", "_sleeper", "_value")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._sleeper: Sleeper | None = None
        self._callbacks: list[Callable[[ThreadCall], None]] = []
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Whether the function has returned or raised, as far as this loop has heard."""
        return self._done

    def result(self) -> Any:
        """Return what a done call has returned, or raise what it has raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> BaseException | None:
        """Return what a done call has raised; None: it has returned."""
        return self._error

    def add_done_callback(self, callback: Callable[[ThreadCall], None]) -> None:
        """Call ``callback`` once it is done, which it is not yet."""
        self._callbacks.append(callback)

    async def wait(self, seconds: float | None = None) -> None:
        """Return when it is done, after ``seconds`` at the latest."""
        if self._done:
            return
        sleeper = self._sleeper = Sleeper()
        try:
            await sleeper.sleep(seconds)
        finally:
            self._sleeper = None
            sleeper.close()

    def work(self) -> None:
        """Call the function, in its thread."""
        try:
            self._value = self._context.run(self._function)
        except StopIteration as stopped:
            # A coroutine cannot raise it.
            self._error = RuntimeError("the handler raised StopIteration")
            self._error.__cause__ = stopped
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            self._error = error

    @property
    def raised(self) -> BaseException | None:
        """What the function has raised, once :meth:`work` has returned."""
        return self._error

    def tell(self) -> None:
        """Have the loop hear that it is done, from the thread."""
        try:
            self._loop.call_soon_threadsafe(self._heard)
        except RuntimeError:
            # After a hard stop the loop may be closed; nobody waits any more.
            return

    def _heard(self) -> None:
        self._done = True
        if self._sleeper is not None:
            self._sleeper.wake()
        for callback in self._callbacks:
            callback(self)


_Calls = queue.SimpleQueue[ThreadCall | None]


class HandlerThreads:
    """Runs functions in threads that are reused; as many as run at once. Used from one event loop."""

    def __init__(self) -> None:
        self._calls: _Calls = queue.SimpleQueue()
        self._idle = 0
        self._threads = 0
        self._lock = threading.Lock()
        self._origin = Origin()

    def start(self, function: Callable[[], Any]) -> ThreadCall:
        """Run ``function`` in a thread, in a copy of the current context."""
        call = ThreadCall(function)
        with self._lock:
            if self._idle == 0:
                self._threads += 1
                name = f"tranship-task-{self._threads}"
                threading.Thread(target=self._serve, args=[self._calls], name=name, daemon=True).start()
            else:
                self._idle -= 1
        self._calls.put(call)
        return call

    async def run(self, function: Callable[[], Any]) -> Any:
        """Return or raise what ``function`` does in a thread; it goes on when this is cancelled."""
        call = self.start(function)
        await call.wait()
        return call.result()

    def stop(self) -> None:
        """Let idle threads end; busy ones end with their function, or with the process."""
        with self._lock:
            for _ in range(self._threads):
                self._calls.put(None)

    def renew(self) -> None:
        """Have new threads run what comes from now on; those that are busy end with their function."""
        self.stop()
        with self._lock:
            self._calls, self._threads, self._idle = queue.SimpleQueue(), 0, 0

    def _serve(self, calls: _Calls) -> None:
        while (call := calls.get()) is not None:
            call.work()
            self._origin.check(call.raised)
            # First: whoever hears of it may start the next one.
            with self._lock:
                self._idle += calls is self._calls
            call.tell()
            del call
