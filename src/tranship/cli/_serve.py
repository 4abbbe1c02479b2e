"""Running a worker as a process: signals in, a bounded end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
from collections.abc import Iterator

from tranship.cli._leave import last_resort
from tranship.worker import Worker

__all__ = ["serve"]

log = logging.getLogger("tranship.worker")


def serve(worker: Worker, *, burst: bool) -> int | None:
    """Work until a signal, or with ``burst`` until nothing is left; return how many deliveries that took.

    None: a signal ended it. The process ends soon after the worker has stopped, whatever hangs in threads.

    Raises:
        What :meth:`Worker.run` raises.
    """
    ending = last_resort(0)

    async def work() -> int | None:
        try:
            return await _until_signal(worker, burst=burst)
        finally:
            # asyncio.run waits for the threads of asyncio.to_thread, and those may never return.
            ending.start()

    try:
        return asyncio.run(work())
    finally:
        ending.cancel()


async def _until_signal(worker: Worker, *, burst: bool) -> int | None:
    if not burst:
        with _signals(_Stopping(worker, None)):
            await worker.serve()
        return None
    working = asyncio.ensure_future(worker.serve_until_idle(math.inf))
    stopping = _Stopping(worker, working)
    with _signals(stopping):
        try:
            return await working
        except asyncio.CancelledError:
            if stopping.asked == 0:
                raise
            return None


class _Stopping:
    """What signals lead to: the first stops the worker, the second hurries it.

    Args:
        worker: to be stopped.
        working: to be cancelled, where the worker does not wait for its stop.
    """

    def __init__(self, worker: Worker, working: asyncio.Future[int] | None) -> None:
        self.asked = 0
        self._worker = worker
        self._working = working

    def __call__(self) -> None:
        self.asked += 1
        if self.asked > 1:
            log.warning("stopping at once; tasks that run are given back")
        else:
            log.info("stopping: finishing what runs (signal again to hurry)")
        self._worker.stop(hurry=self.asked > 1)
        if self._working is not None and self.asked == 1:
            self._working.cancel()


@contextlib.contextmanager
def _signals(handler: _Stopping) -> Iterator[None]:
    """Have SIGTERM and SIGINT call ``handler``; where a loop cannot (Windows, other threads) nothing changes."""
    loop = asyncio.get_running_loop()
    installed = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, handler)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            loop.remove_signal_handler(number)
