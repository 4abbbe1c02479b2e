"""What a worker was told about its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

__all__ = ["Stopping"]

log = logging.getLogger("tranship.worker")


class Stopping:
    """Whether it is to stop, and whether at once. Any thread may ask, before it works as well.

    Attributes:
        stop, hurry: set, on the loop of the work under way, once it was asked to.
        reason: why; empty: nobody has asked.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reason = ""
        self._asked = self._asked_to_hurry = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def ask(self, reason: str, *, hurry: bool) -> None:
        """Have it stop. Takes no lock and writes no log: it may be called when a signal comes."""
        self.reason = self.reason or reason
        self._asked = True
        self._asked_to_hurry |= hurry
        loop = self._loop
        if loop is not None:
            # The loop may have ended in this very moment; then there is nothing left to stop.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._heed)

    def signalled(self, number: signal.Signals) -> None:
        """Have it stop; asked once more, hurry."""
        self.ask(number.name, hurry=self._asked)

    def begin(self) -> None:
        """From now on it works on the running loop."""
        # Events belong to the loop of this run.
        self._loop, self.stop, self.hurry = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._heed()

    def end(self) -> None:
        """It works no more; what was asked is forgotten."""
        self._loop = None
        self._asked = self._asked_to_hurry = False
        self.reason = ""

    def _heed(self) -> None:
        if self._asked and not self.stop.is_set():
            log.info("stopping (%s): finishing what runs (a second signal hurries)", self.reason)
            self.stop.set()
        if self._asked_to_hurry and not self.hurry.is_set():
            log.warning("stopping at once; tasks that run are given back")
            self.hurry.set()
