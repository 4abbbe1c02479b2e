"""When a worker says what it is and does: every few seconds, and soon after something has changed."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from tranship.clocks import look
from tranship.errors import BrokerUnreachable, TranshipError
from tranship.ports import Backend, ControlChannel
from tranship.settings import Settings
from tranship.timers import next_round
from tranship.worker._namesakes import Namesakes
from tranship.worker._presence import Presence

__all__ = ["Heartbeats"]

log = logging.getLogger("tranship.worker")

_TIMEOUT: Final = 5.0
"""Seconds that one may take, at least: those that are due the whole time need not all arrive."""


class Heartbeats:
    """Those of one worker; an operator sees them, and no task depends on them.

    Args:
        control: where they go; None: nowhere.
        backend: whose clock is looked at, now and then.
        settings: the interval, and the least time between two.
        presence: what is said.
        namesakes: are greeted along the way; None: nobody can hear.
    """

    def __init__(
        self,
        control: ControlChannel | None,
        *,
        backend: Backend,
        settings: Settings,
        presence: Presence,
        namesakes: Namesakes | None,
    ) -> None:
        self._control = control
        self._backend = backend
        self._interval = settings.heartbeat_interval
        self._debounce = settings.heartbeat_debounce
        self._presence = presence
        self._namesakes = namesakes
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.cut_off = False
        """Whether the broker could not be reached by the last one."""

    def changed(self) -> None:
        """Something has changed that is to be known soon; any thread."""
        try:
            self._loop.call_soon_threadsafe(self.hurry)
        except RuntimeError:
            # The loop was closed in this moment: there is nobody left to tell of.
            return

    def hurry(self) -> None:
        """The same, on the loop."""
        self._news.set()

    async def keep(self) -> None:
        """Say that the worker is there, and look what time it is at the broker, until cancelled."""
        looked = time.monotonic()
        while True:
            self._news.clear()
            await self._say(stopping=False)
            await self._until_due()
            if time.monotonic() - looked >= self._interval / 2:
                await look(self._backend, self._backend.url)
                looked = time.monotonic()

    async def end(self) -> None:
        """Say that the worker stops."""
        await self._say(stopping=True)

    async def _until_due(self) -> None:
        try:
            async with asyncio.timeout_at(next_round(self._loop.time(), self._interval)):
                await self._news.wait()
        except TimeoutError:
            return
        # What else changes meanwhile is told with it, and a change that never ends is told this often.
        await asyncio.sleep(self._debounce)

    async def _say(self, *, stopping: bool) -> None:
        if self._control is None:
            return
        try:
            async with asyncio.timeout(max(self._interval, _TIMEOUT)):
                await self._control.beat(self._presence.beat(stopping=stopping))
                self.cut_off = False
                if self._namesakes is not None and not stopping:
                    await self._namesakes.greet()
        except (TranshipError, TimeoutError) as error:
            self.cut_off = isinstance(error, BrokerUnreachable | TimeoutError)
            log.debug("a heartbeat was not sent: %r", error)
        except Exception:
            # A driver's bug: workers work without being seen.
            log.exception("the backend's beat failed in an unexpected way")
