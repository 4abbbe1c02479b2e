"""Which threads are at work, so that a test's clock waits for them, and which only wait for time to pass."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

from tranship.worker._threads import HandlerThreads, ThreadCall

__all__ = ["Calls"]


class Calls:
    """Functions that run in threads for an event loop: handlers, and what ``asyncio.to_thread`` calls.

    Mutable state: those that have begun and whose loop has not heard yet that they are done, and who sleeps; changed
    only under the lock. While it is in use, what starts such calls tells it of them.

    Args:
        now: the real time.
        patience: seconds after which a call is taken for one that waits for something.
    """

    def __init__(self, now: Callable[[], float], patience: float) -> None:
        self._now, self._patience = now, patience
        self._calls: dict[ThreadCall | asyncio.Future[Any], float] = {}
        self._inside: set[int] = set()
        self._asleep: dict[int, float] = {}
        self._changed = threading.Condition()
        self._usual: tuple[Any, Any] | None = None

    def begin(self) -> None:
        """From now on be told of calls."""
        start, run_in_executor = HandlerThreads.start, asyncio.BaseEventLoop.run_in_executor
        self._usual = start, run_in_executor

        def start_told(threads: HandlerThreads, function: Callable[[], Any]) -> ThreadCall:
            call: ThreadCall = start(threads, self._noticed(function))
            self._begun(call)
            return call

        def run_told(loop: asyncio.BaseEventLoop, executor: Any, function: Any, *args: Any) -> asyncio.Future[Any]:
            call: asyncio.Future[Any] = run_in_executor(loop, executor, self._noticed(function), *args)
            self._begun(call)
            return call

        HandlerThreads.start = start_told  # type: ignore[method-assign, assignment]
        asyncio.BaseEventLoop.run_in_executor = run_told  # type: ignore[method-assign, assignment]

    def end(self) -> None:
        """Be told no more, and let everybody who sleeps go on."""
        if self._usual is not None:
            HandlerThreads.start, asyncio.BaseEventLoop.run_in_executor = self._usual  # type: ignore[method-assign]
            self._usual = None
        self.wake(math.inf)

    def at_work(self) -> bool:
        """Whether a call works, rather than sleeps."""
        with self._changed:
            self._calls = {call: since for call, since in self._calls.items() if not call.done()}
            recent = [since for since in self._calls.values() if self._now() - since < self._patience]
            return len(recent) > len(self._inside & self._asleep.keys())

    def next(self) -> float:
        """When the first one that sleeps is to go on; never: infinity."""
        with self._changed:
            return min(self._asleep.values(), default=math.inf)

    def wake(self, now: float) -> None:
        """Let those go on whose time has come."""
        with self._changed:
            due = [thread for thread, until in self._asleep.items() if until <= now]
            for thread in due:
                del self._asleep[thread]
            if due:
                # They are at work from now on, and get as long as those that begin now.
                self._calls = dict.fromkeys(self._calls, self._now())
                self._changed.notify_all()

    def sleep(self, now: Callable[[], float], seconds: float) -> None:
        """Sleep until so much time has passed, by itself or because it was advanced."""
        thread, until = threading.get_ident(), now() + seconds
        with self._changed:
            self._asleep[thread] = until
            while thread in self._asleep and (left := until - now()) > 0:
                self._changed.wait(left)
            self._asleep.pop(thread, None)

    def _begun(self, call: ThreadCall | asyncio.Future[Any]) -> None:
        with self._changed:
            self._calls[call] = self._now()

    def _noticed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def inside(*args: Any) -> Any:
            thread = threading.get_ident()
            with self._changed:
                self._inside.add(thread)
            try:
                return function(*args)
            finally:
                with self._changed:
                    self._inside.discard(thread)

        return inside
