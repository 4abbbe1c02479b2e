"""What a worker says of itself, every few seconds: an operator sees it, and no task depends on it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from tranship.clocks import clock_of, look
from tranship.errors import TranshipError
from tranship.ports import Backend, ControlChannel, Heartbeat
from tranship.settings import Settings

__all__ = ["Heartbeats"]

log = logging.getLogger("tranship.worker")

_MOST: Final = 1000
"""Ids of running tasks in one heartbeat."""


class Heartbeats:
    """Those of one worker.

    Args:
        control: where they go; None: nowhere.
        name: the worker's.
        queues: what it consumes.
        settings: its limit, and the interval.
        running: returns the ids of the tasks that run.
        backend: whose clock is looked at, now and then.
    """

    def __init__(
        self,
        control: ControlChannel | None,
        *,
        name: str,
        queues: Sequence[str],
        settings: Settings,
        running: Callable[[], Sequence[str]],
        backend: Backend,
    ) -> None:
        self._control = control
        self._name = name
        self._queues = queues
        self._settings = settings
        self._running = running
        self._backend = backend

    async def keep(self) -> None:
        """Say that the worker is there, and look what time it is at the broker, until cancelled."""
        while True:
            if self._control is not None:
                await self._say(self._control, stopping=False)
            await asyncio.sleep(self._settings.heartbeat_interval)
            await look(self._backend, self._backend.url)

    async def end(self) -> None:
        """Say that the worker stops."""
        if self._control is not None:
            await self._say(self._control, stopping=True)

    async def _say(self, control: ControlChannel, *, stopping: bool) -> None:
        try:
            async with asyncio.timeout(self._settings.heartbeat_interval):
                await control.beat(self._beat(stopping))
        except (TranshipError, TimeoutError) as error:
            log.debug("a heartbeat was not sent: %r", error)
        except Exception:
            # A driver's bug: workers work without being seen.
            log.exception("the backend's beat failed in an unexpected way")

    def _beat(self, stopping: bool) -> Heartbeat:
        return Heartbeat(
            worker=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=list(self._queues),
            running=self._running()[:_MOST],
            limit=self._settings.max_concurrent_tasks,
            at=time.time(),
            stopping=stopping,
            ahead=clock_of(self._backend).ahead,
        )
