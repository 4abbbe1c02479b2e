"""The backend of one broker: made, opened, closed, and made anew where it is of no use any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from tranship.errors import BrokerGone, BrokerUnreachable, ClosedError, StorageCorrupt, TranshipError
from tranship.ports import Backend, ConnectionEvent

__all__ = ["MemberLink", "bug"]

log = logging.getLogger("tranship.routing")

CLOSING: Final = 10.0
"""Seconds that closing a broker's backend may take."""

Join = Callable[[bool], Awaitable[None]]
"""Told whether the backend is a new one."""


class MemberLink:
    """Mutable state: the backend, a new one after each failed opening, and whether it is open.

    Args:
        url: the broker, without secrets.
        make: makes a backend for it, not opened.
        told: called with events of the backend in use.
    """

    def __init__(self, url: str, make: Callable[[], Backend], told: Callable[[ConnectionEvent], None]) -> None:
        self.backend = make()
        self.opened = False
        self._url = url
        self._make: Callable[[], Backend] = make
        self._told: Callable[[ConnectionEvent], None] = told
        self._used = False

    async def open(self, join: Join) -> None:
        """Open the backend, a new one if this has been used, and have it join.

        Raises:
            TranshipError: it could not be opened, or may not join.
        """
        if self._used:
            old, self.backend = self.backend, self._make()
            await self._close(old)
        self._used = True
        backend = self.backend
        try:
            await backend.open()
            backend.on_event(lambda event, _generation: self._event(backend, event))
            await join(True)
        except BaseException as error:
            await self._close(backend)
            if isinstance(error, TranshipError) or not isinstance(error, Exception):
                raise
            raise bug(self._url, "open", error) from error
        self.opened = True

    async def check(self, join: Join, timeout: float) -> None:
        """Ask the opened backend for a sign of life, within ``timeout`` seconds, and have it join again.

        Raises:
            TimeoutError: there was none.
            TranshipError: what it said; where it is of no use any more, the next one is opened anew.
        """
        try:
            async with asyncio.timeout(timeout):
                await self.backend.ping()
                await join(False)
        except (BrokerGone, StorageCorrupt, ClosedError):
            self.opened = False
            raise
        except (TranshipError, TimeoutError):
            raise
        except Exception as error:
            raise bug(self._url, "ping", error) from error

    async def aclose(self) -> None:
        """Close the backend, within bounds."""
        await self._close(self.backend)

    def _event(self, backend: Backend, event: ConnectionEvent) -> None:
        if backend is self.backend and self.opened:
            self._told(event)

    async def _close(self, backend: Backend) -> None:
        closing = asyncio.ensure_future(backend.aclose())
        await asyncio.wait({closing}, timeout=CLOSING)
        if not closing.done():
            closing.cancel()
            log.warning("closing %s has taken too long and was given up", self._url)
        elif not closing.cancelled() and (error := closing.exception()) is not None:
            log.warning("closing %s failed: %s", self._url, error)


def bug(url: str, verb: str, error: Exception) -> BrokerUnreachable:
    """The error for a driver that failed in an unexpected way."""
    log.error("%s of %s failed in an unexpected way", verb, url, exc_info=error)
    return BrokerUnreachable(f"{verb} of {url} failed in an unexpected way: {error!r}")
