"""The safety net under the bell: while anybody waits, look at the database twice a second.

A look costs microseconds: is the file still ours, has anybody committed, does everybody live?
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tranship.backends.sqlite._hub import Hub
from tranship.backends.sqlite._peers import RESULTS, SIGNALS, TASKS
from tranship.errors import TranshipError

__all__ = ["LOOK", "Watch"]

LOOK: Final = 0.5
"""Seconds between two looks. What a look costs is mostly waking up: about 0.15 ms."""
RENEW: Final = 30.0
"""Seconds between two signs of life of a peer."""


class Watch:
    """Runs on the backend's loop while anybody is interested.

    Args:
        hub: what is looked at.
        gone: called when the database cannot be used any more.
    """

    def __init__(self, hub: Hub, gone: Callable[[TranshipError], None]) -> None:
        self._hub = hub
        self._gone = gone
        self._interested: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._version: int | None = None
        self._renew_at = 0.0

    def want(self, who: object) -> None:
        """``who`` waits for something."""
        self._interested.add(id(who))
        if self._timer is None and self._hub.failure is None:
            loop = asyncio.get_running_loop()
            self._renew_at = self._renew_at or loop.time() + RENEW
            self._timer = loop.call_later(LOOK, self._look)

    def leave(self, who: object) -> None:
        """``who`` waits no longer."""
        self._interested.discard(id(who))

    def stop(self) -> None:
        """Look no more."""
        self._interested.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._hub.failure is not None or not self._interested:
            return
        try:
            self._hub.location.verify()
            self._hub.probe_peers()
            self._compare()
        except TranshipError as error:
            if not error.retryable:
                self._gone(error)
                return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._renew_at:
            self._renew_at = loop.time() + RENEW
            self._hub.renew()
        self._timer = loop.call_later(LOOK, self._look)

    def _compare(self) -> None:
        found = self._hub.read("PRAGMA data_version", ())
        version = found[0][0] if found else None
        changed, self._version = version != self._version, version
        if changed:
            self._hub.ring((TASKS, RESULTS, SIGNALS))
