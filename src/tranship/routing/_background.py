"""Work that outlives the call that began it, and not the backend."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Background"]

log = logging.getLogger("tranship.routing")

T = TypeVar("T")


class Background:
    """The tasks of one backend, on its loop, with strong references. A failure of one is logged where nobody asks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin ``work``; whoever is cancelled while waiting for it does not stop it."""
        task = asyncio.get_running_loop().create_task(work)
        self.adopt(task)
        return task

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Keep ``task`` until it has ended."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def aclose(self) -> None:
        """Cancel what is left and wait for its end."""
        mine = asyncio.current_task()
        while tasks := {task for task in self._tasks if task is not mine}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Asking keeps asyncio from calling it unheard; those who wait ask, too.
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("something in the background ended with %r", error)
