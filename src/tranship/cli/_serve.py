"""Running a worker as a process: signals in, a bounded end."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from signal import Signals
from typing import TYPE_CHECKING

from tranship._running import run
from tranship._signals import heard
from tranship.cli._leave import last_resort

if TYPE_CHECKING:
    from tranship.worker import Worker

__all__ = ["serve"]


def serve(worker: Worker, *, burst: bool, code: Callable[[], int] = lambda: 0) -> int | None:
    """Work until a signal, or with ``burst`` until nothing is left; return how many deliveries that took.

    None: a signal ended it. The process ends soon after the worker has stopped, whatever hangs in threads, and then
    with the exit code that ``code`` says.

    Raises:
        What :meth:`Worker.run` raises.
    """
    ending: threading.Timer | None = None
    signals = 0

    def signalled(number: Signals) -> None:
        nonlocal signals
        signals += 1
        worker.signalled(number)

    def ended() -> None:
        nonlocal ending
        ending = last_resort(code())
        ending.start()

    # A handler may block the loop for ever, and the loop's end waits for the threads of asyncio.to_thread.
    worker.on_end = ended
    try:
        with heard(signalled):
            done = run(worker.serve_until_idle(math.inf) if burst else worker.serve())
    finally:
        if ending is not None:
            ending.cancel()
    return None if signals else done
