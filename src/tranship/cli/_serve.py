"""Running a worker as a process: signals in, a bounded end."""

from __future__ import annotations

import math
from signal import Signals
from typing import TYPE_CHECKING

from tranship._running import run
from tranship._signals import heard
from tranship.cli._leave import last_resort

if TYPE_CHECKING:
    from tranship.worker import Worker

__all__ = ["serve"]


def serve(worker: Worker, *, burst: bool) -> int | None:
    """Work until a signal, or with ``burst`` until nothing is left; return how many deliveries that took.

    None: a signal ended it. The process ends soon after the worker has stopped, whatever hangs in threads.

    Raises:
        What :meth:`Worker.run` raises.
    """
    ending = last_resort(0)
    signals = 0

    def signalled(number: Signals) -> None:
        nonlocal signals
        signals += 1
        worker.signalled(number)

    # A handler may block the loop for ever, and the loop's end waits for the threads of asyncio.to_thread.
    worker.on_end = ending.start
    try:
        with heard(signalled):
            done = run(worker.serve_until_idle(math.inf) if burst else worker.serve())
    finally:
        ending.cancel()
    return None if signals else done
