"""A worker beside the code that tests it."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from tranship._running import run
from tranship.errors import BusyError, ConfigurationError
from tranship.worker import Worker

__all__ = ["BackgroundWorker"]

_START_TIMEOUT = 30.0
_LOOK_INTERVAL = 0.005
_STOP_GRACE = 30.0


class BackgroundWorker:
    """Runs a worker on an event loop in a thread of its own. Works as a context manager.

    ::

        with BackgroundWorker(Worker(url, tasks=[resize])):
            assert client.submit(resize, "a.png", width=64).result(timeout=5) == "a-64.png"

    Args:
        worker: not at work elsewhere.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"tranship-worker-{worker.name}", daemon=True)

    def start(self) -> Self:
        """Start, and wait until the worker is ready.

        Raises:
            ConfigurationError: it was not ready within half a minute.
            Whatever the worker raised instead of getting ready.
        """
        self._thread.start()
        give_up = time.monotonic() + _START_TIMEOUT
        while not self.worker.status().ready:
            self._thread.join(_LOOK_INTERVAL)
            if not self._thread.is_alive() or time.monotonic() > give_up:
                problem = self.worker.status().problem
                self.stop()
                raise ConfigurationError(f"{self.worker!r} was not ready within {_START_TIMEOUT:g} s: {problem}")
        return self

    def stop(self) -> None:
        """Let running tasks finish within the worker's ``shutdown_timeout``, and stop. Idempotent.

        Raises:
            BusyError: it did not stop; its thread is left behind.
            Whatever made the worker stop by itself.
        """
        if self._thread.is_alive():
            self.worker.stop()
        self._thread.join(self.worker.settings.shutdown_timeout + _STOP_GRACE)
        if self._thread.is_alive():
            raise BusyError(f"{self.worker!r} did not stop; does a task ignore its cancellation?")
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            run(self.worker.serve())
        except BaseException as error:  # noqa: BLE001 - raised again by stop(), in the thread that asks
            self._error = error
