"""Tasks between the orchestrator and the worker: asked for one at a time, held until the worker takes them.

A question that is under way cannot be taken back: the orchestrator would hand a task to nobody. It goes on whether or
not somebody waits for it, and what it brings is held.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final

from tranship.errors import TranshipError
from tranship_avtomatika._tasks import Held

__all__ = ["Inbox"]

MOST: Final = 10
"""Tasks that are held before the orchestrator is asked for another one."""
PROMPT: Final = 0.5
"""Seconds within which an orchestrator that waits for tasks does not say that there are none."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
LOOK: Final = 1.0
"""Seconds that one take waits at most: one that nobody waits for any more goes on until then."""
UNWANTED: Final = 2.0
"""Seconds after which nobody takes any more: a worker that is at work always does."""


class Inbox:
    """Of one connection.

    Args:
        ask: asks the orchestrator for a task; None: it has none.
        queue_of: returns the queue that a task belongs to.
    """

    def __init__(self, ask: Callable[[], Awaitable[Held | None]], queue_of: Callable[[str], str]) -> None:
        self._ask, self._queue_of = ask, queue_of
        self._waiting: list[Held] = []
        self._news = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._failure: TranshipError | None = None
        self._takers, self._left_at = 0, asyncio.get_running_loop().time()
        self._pause = 0.0
        self.closed = False

    @property
    def wanted(self) -> bool:
        """Whether somebody takes what comes; a worker that stops, or pauses everything, does not."""
        return self._takers > 0 or asyncio.get_running_loop().time() - self._left_at < UNWANTED

    @property
    def asking(self) -> bool:
        """Whether the orchestrator is being asked: then it has nothing that waits for this worker."""
        return self._asking is not None and not self._asking.done()

    async def take(self, queues: Collection[str], limit: int, wait: float) -> list[Held]:
        """Return up to ``limit`` tasks of ``queues``, as soon as there is one, or none after ``wait`` seconds or less.

        Raises:
            TranshipError: the orchestrator does not answer, or says no.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + min(wait, LOOK)
        self._takers += 1
        try:
            while True:
                if found := self._ready(queues, limit):
                    return found
                if self._failure is not None:
                    failure, self._failure = self._failure, None
                    raise failure
                self._ask_soon()
                if (left := until - loop.time()) <= 0:
                    return []
                await self._told(min(left, self._next_due(queues)))
        finally:
            self._takers -= 1
            self._left_at = loop.time()

    def put_back(self, held: Held, *, due: float = 0.0) -> None:
        """Hold a task that the worker has given back; ``due`` in epoch seconds."""
        held.open, held.due = False, due
        if due:
            self._waiting.append(held)
        else:
            self._waiting.insert(0, held)
        self._tell()

    async def close(self, patience: float) -> list[Held]:
        """Ask no more; return what is held, and what comes within ``patience`` seconds."""
        self.closed = True
        self._tell()
        if self._asking is not None and self.asking:
            await asyncio.wait({self._asking}, timeout=patience)
            self._asking.cancel()
            with suppress(asyncio.CancelledError):
                await self._asking
        left, self._waiting = self._waiting, []
        return left

    def abort(self) -> None:
        """Ask no more, and wait for nothing."""
        self.closed = True
        if self._asking is not None:
            self._asking.cancel()

    def _ready(self, queues: Collection[str], limit: int) -> list[Held]:
        now = time.time()
        found: list[Held] = []
        for one in self._waiting:
            if len(found) < limit and one.due <= now and self._queue_of(one.kind) in queues:
                found.append(one)
        for one in found:
            self._waiting.remove(one)
            one.open, one.count = True, one.count + 1
        return found

    def _next_due(self, queues: Collection[str]) -> float:
        """Return the seconds until something that is held is due."""
        now = time.time()
        times = [one.due - now for one in self._waiting if one.due > now and self._queue_of(one.kind) in queues]
        return min(times, default=float("inf"))

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _told(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _ask_soon(self) -> None:
        if not self.closed and len(self._waiting) < MOST and not self.asking:
            self._asking = asyncio.create_task(self._ask_on())

    async def _ask_on(self) -> None:
        """Ask until there is a task, or nobody waits for one."""
        loop = asyncio.get_running_loop()
        while self._takers and not self.closed:
            began = loop.time()
            try:
                found = await self._ask()
            except TranshipError as error:
                self._failure = error
                self._tell()
                return
            if found is not None:
                self._pause = 0.0
                self._waiting.append(found)
                self._tell()
                return
            if loop.time() - began < PROMPT:
                self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
                await asyncio.sleep(self._pause)
