"""The connection for claims and settlements: opened by whoever needs it first, with the sweeper on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tranship.guards import Gate
from tranship_redis._link import Link

__all__ = ["Background", "WorkLink"]


class Background(Protocol):
    """What runs for as long as the connection is wanted."""

    def start(self) -> None:
        """Begin, in a task of its own."""

    async def aclose(self) -> None:
        """End it."""


class WorkLink:
    """At most one open link, made on demand. Who makes the links closes them.

    Args:
        make: returns a new link that is not open.
        gate: of the backend.
    """

    def __init__(self, make: Callable[[], Link], gate: Gate) -> None:
        self._make = make
        self._gate = gate
        self._lock = asyncio.Lock()
        self._link: Link | None = None
        self._background: Background | None = None

    async def __call__(self, background: Callable[[Link], Background]) -> Link:
        """Return the open link, with ``background`` started on it; several may ask at once.

        Raises:
            As ``Link.open``. The next who asks tries again.
        """
        async with self._lock:
            self._gate.check()
            if self._link is None:
                link = self._make()
                await link.open()
                self._gate.check()
                self._background = background(link)
                self._background.start()
                self._link = link
            return self._link

    async def aclose(self) -> None:
        """Stop what runs on it. Idempotent."""
        background, self._background = self._background, None
        if background is not None:
            await background.aclose()
