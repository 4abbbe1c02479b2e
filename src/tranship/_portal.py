"""An event loop in a thread of its own, for callers that have no loop or the wrong one."""

from __future__ import annotations

import asyncio
import concurrent.futures

# Now: it cannot be imported any more when the main thread has ended, and drivers, loaded on first use, need it.
import concurrent.futures.thread
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from tranship._running import keep_running, wind_up
from tranship.errors import BusyError, ClosedError
from tranship.guards import ServiceThread, check_may_block

__all__ = ["Portal"]

P = ParamSpec("P")
T = TypeVar("T")


class Portal:
    """A daemon thread that runs one event loop until :meth:`stop`.

    :meth:`call` and :meth:`run` may be used from any thread, but waiting is refused where it would be for ever.
    """

    def __init__(self, name: str = "tranship-io") -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.loop.set_default_executor(_Threads())
        self._stopping = False
        # Reentrant: a signal's handler may use a client while its thread is in call().
        self._lock = threading.RLock()
        self._thread = ServiceThread(target=self._serve, name=name)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            keep_running(self.loop, lambda: self._stopping)
        finally:
            wind_up(self.loop)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start ``coroutine`` on the portal's loop; cancelling the future cancels it.

        Raises:
            ClosedError: the portal has been stopped.
        """
        # Under the lock: what is handed over behind stop() would never be run, and waited for for ever.
        with self._lock:
            if not self._stopping:
                return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        coroutine.close()
        raise _stopped()

    def post(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have the portal's loop call ``callback``.

        Raises:
            ClosedError: the portal has been stopped.
        """
        with self._lock:
            if self._stopping:
                raise _stopped()
            self.loop.call_soon_threadsafe(callback, *arguments)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` on the portal's loop and wait for its result.

        An interrupt (Ctrl-C) while waiting cancels the coroutine.

        Raises:
            BusyError: called on a thread that others wait for, such as the portal's own.
            ClosedError: the portal has been stopped, before or meanwhile.
        """
        try:
            check_may_block()
        except BusyError:
            coroutine.close()
            raise
        future = self.call(coroutine)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if self._stopping:
                raise _stopped() from None
            raise
        except BaseException:
            future.cancel()
            raise

    def stop(self, *, join: bool = True) -> None:
        """End the loop and, with ``join``, wait for its thread; idempotent."""
        with self._lock:
            if not self._stopping:
                self._stopping = True
                self.loop.call_soon_threadsafe(self.loop.stop)
        if join:
            self._thread.join()


class _Threads(concurrent.futures.ThreadPoolExecutor):
    """A daemon thread for each call: for the few that an event loop makes, such as looking up a host's name.

    A pool refuses calls when the main thread has ended, while other threads still work, and keeps the process from
    ending as long as one of its calls takes.
    """

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """Call ``function`` in a thread of its own."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                future.set_exception(error)

        threading.Thread(target=call, name="tranship-io-call", daemon=True).start()
        return future


def _stopped() -> ClosedError:
    return ClosedError("the I/O loop has been stopped; open a new client")
