"""Looks whether the handlers' loop comes round: who blocks it is named, and may stop nothing but handlers; and whether
handlers stop that were told to.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Final

from tranship.guards import ServiceThread
from tranship.worker._io import IOLoop
from tranship.worker._record import Run
from tranship.worker._unheeding import Unheeding

__all__ = ["EVERY", "Watch"]

log = logging.getLogger("tranship.worker")

LONG: Final = 1.0
"""Seconds for which a handler may block its loop without a word."""
EVERY: Final = 0.5
"""Seconds between two looks."""
IDLE: Final = 4
"""Looks in a row that find nothing running, after which it rests: each wakes the handlers' loop."""
REST: Final = 10
"""A rest is as long as so many pauses between two looks, unless a task begins."""
_ADVICE: Final = "what blocks belongs in a def task or in asyncio.to_thread, what computes in a process of its own"
_OURS: Final = ("tranship.worker.", "tranship.compat.", "asyncio.")
"""Modules between the loop and the handler."""


class Watch:
    """Of one worker, in a thread of its own, from when it is made.

    Args:
        io: moves to a thread of its own as soon as the handlers' loop has not come round between two looks.
        running: what runs, and may be what blocks.
        latest: what was the last to begin.
        every: seconds between two looks: after one or two of them the I/O goes on, whatever blocks.
    """

    def __init__(
        self,
        io: IOLoop,
        running: Callable[[], Sequence[Run]],
        latest: Callable[[], Run | None],
        *,
        every: float = EVERY,
    ) -> None:
        self._io = io
        self._loop = io.handlers
        self._running = running
        self._latest = latest
        self._asked: float | None = None
        """Since when, by the performance counter, the handlers' loop has not answered."""
        self._named = ""
        self._every = every
        self._unheeding = Unheeding()
        self._idle = IDLE
        """Looks in a row that found nothing running; it begins with a rest."""
        self._begun = 0.0
        """When the task began that ended its rest: it may have kept the interpreter to itself since."""
        self._resting = self._ended = False
        self._woken = threading.Event()
        self._thread = ServiceThread(target=self._look_again, name="tranship-watch")
        self._thread.start()

    def keep(self, lease: float | None) -> None:
        """Look often enough for leases of ``lease`` seconds."""
        if lease is not None:
            self._every = min(self._every, lease / 6)

    def begin(self) -> None:
        """A task begins, which may block: rest no more; any thread."""
        if self._resting:
            self._resting, self._begun = False, time.perf_counter()
            self._woken.set()

    def stop(self) -> None:
        """Look no more."""
        self._ended = True
        self._woken.set()
        self._thread.join()

    def _look_again(self) -> None:
        looked = time.perf_counter()
        while not self._ended:
            resting = self._may_rest()
            pause = self._every * (REST if resting else 1)
            if self._woken.wait(pause):
                self._woken.clear()
                looked, self._idle = self._begun, 0
                continue
            now, runs = time.perf_counter(), self._running()
            held, looked = now - looked - pause, now
            if held > LONG:
                text = (
                    "nothing could run for %.1f s: %s kept the interpreter to itself, or the process was frozen; %s%s"
                )
                log.warning(text, held, self._who(), _ADVICE, self._where())
            self._idle = 0 if runs else self._idle + 1
            if resting or self._idle <= IDLE or self._asked is not None:
                self._look(now)
            self._unheeding.look(runs, time.monotonic())

    def _may_rest(self) -> bool:
        # What runs is asked once more afterwards: what begins from here on finds it resting, and wakes it.
        self._resting = self._idle >= IDLE and self._asked is None
        return self._resting and not self._running()

    def _look(self, now: float) -> None:
        asked = self._asked
        if asked is None:
            self._asked = now
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                # It was closed under the worker, whose tasks are others' now.
                self._io.abandon()
                self._ended = True
        elif self._loop.is_running():
            self._io.move()
            if not self._named and now - asked > LONG:
                self._named = self._who()
                log.warning("%s blocks the event loop of the handlers; %s%s", self._named, _ADVICE, self._where())

    def _answer(self) -> None:
        asked, named, self._asked, self._named = self._asked, self._named, None, ""
        if named and asked is not None:
            blocked = time.perf_counter() - asked
            log.warning("the event loop of the handlers was blocked for %.1f s by %s", blocked, named)

    def _who(self) -> str:
        runs, job = self._running(), asyncio.current_task(self._loop)
        mine = next((run for run in runs if run.job is job), None) if job else None
        if mine is not None:
            return _name(mine)
        # A part of its own making, or a callback, or it has just ended.
        latest = self._latest()
        return (
            "code outside of tasks" if latest is None else f"perhaps {_name(latest)}, the last of {len(runs)} to begin,"
        )

    def _where(self) -> str:
        """The stack of the handlers' thread, from the handler on."""
        frame = sys._current_frames().get(self._io.thread_id)  # noqa: SLF001 - documented, for debuggers
        frames = list(traceback.walk_stack(frame)) if frame else []
        own = next((at for at, (one, _) in enumerate(frames) if _is_ours(one.f_globals)), len(frames))
        return "".join(["\n", *traceback.StackSummary.extract(reversed(frames[:own])).format()]).rstrip()


def _name(run: Run) -> str:
    return f"task {run.id} ({run.envelope and run.envelope.task})"


def _is_ours(names: dict[str, object]) -> bool:
    return f"{names.get('__name__', '')}.".startswith(_OURS)
