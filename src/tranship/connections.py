"""The process-wide table of shared connections: keyed, counted, back to zero after close.

This is the only module-level mutable state of tranship. What is shared, and when:

* A *link* (an opened backend with everything around it) is shared by all clients of one event loop
  that ask for the same key, and closed when the last of them closes.
* The first event loop that asks for a key gets a link of its own. Blocking clients, and every second
  event loop, share the link that lives on the process's I/O loop thread.
* Embedded brokers keep their in-process state here (``memory://``), for as long as the process lives.
* After a fork the child starts with an empty table; links of the parent are never touched there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, Protocol, TypeVar

from tranship._portal import Portal
from tranship.errors import ClosedError

__all__ = ["ConnectionTable", "Lease", "Link", "process_table"]

log: logging.Logger = logging.getLogger("tranship.connections")

T = TypeVar("T")


class Link(Protocol):
    """What the table shares: something that closes, on the loop that opened it."""

    async def aclose(self) -> None:
        """Close it; called once, on its own loop."""


L = TypeVar("L", bound=Link)
Opener = Callable[[], Coroutine[Any, Any, L]]


class _Entry(Generic[L]):
    """One shared link: where it lives, who counts on it, and the task that opens it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, opener: Opener[L], *, on_portal: bool) -> None:
        self.loop = loop
        self.on_portal = on_portal
        self.count = 0
        self._opener = opener
        self._task: asyncio.Task[L] | None = None

    async def open(self) -> L:
        """Open the link, or join the opening that is under way. A failed opening may be tried again."""
        if self._task is None or (self._task.done() and _failed(self._task)):
            self._task = asyncio.create_task(self._opener())
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        if self._task is None:
            return
        await asyncio.wait({self._task})
        if not _failed(self._task):
            await self._task.result().aclose()


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None


class Lease(Generic[L]):
    """One client's claim on a shared link, until :meth:`release`."""

    def __init__(self, table: ConnectionTable, key: Hashable, entry: _Entry[L]) -> None:
        self._table = table
        self._key = key
        self._entry = entry
        self._released = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop the link lives on."""
        return self._entry.loop

    async def open(self) -> L:
        """Return the opened link; may be awaited on any loop.

        Raises:
            ClosedError: the lease has been released.
            Whatever opening raises: BrokerUnreachable, BrokerRefused, UnsupportedError, ...
        """
        if self._released:
            raise ClosedError("this client has been closed; create a new one")
        return await self._on_home(self._entry.open())

    async def release(self) -> None:
        """Give the claim back; the last one closes the link. Idempotent."""
        if self._let_go():
            # Whoever is cancelled while waiting for it does not stop it half way.
            self._closing = asyncio.create_task(self._close())
            await asyncio.shield(self._closing)

    def release_blocking(self) -> None:
        """The same, from a thread without a loop; waits until the I/O loop thread has gone, if it goes."""
        if self._let_go():
            try:
                self._table.portal().run(self._entry.close())
            finally:
                self._table.portal_unused(self._entry, join=True)

    async def _close(self) -> None:
        try:
            if self._entry.on_portal or self._entry.loop.is_running():
                await self._on_home(self._entry.close())
            elif not self._entry.loop.is_closed():
                log.warning("the event loop of a connection has stopped: it cannot be closed; close clients before")
        finally:
            self._table.portal_unused(self._entry, join=False)

    def _let_go(self) -> bool:
        released, self._released = self._released, True
        return not released and self._table.drop(self._key, self._entry)

    async def _on_home(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if asyncio.get_running_loop() is self._entry.loop:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._entry.loop))


class ConnectionTable:
    """Keyed, counted shared links and embedded state. All methods are thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[tuple[Hashable, bool], _Entry[Any]] = {}
        self._states: dict[Hashable, Any] = {}
        self._portal: Portal | None = None
        self._portal_users = 0

    def shared(self, key: Hashable, factory: Callable[[], T]) -> T:
        """Get the process-wide state of an embedded broker, created on first use."""
        with self._lock:
            if key not in self._states:
                self._states[key] = factory()
            state: T = self._states[key]
            return state

    def lease(self, key: Hashable, opener: Opener[L], loop: asyncio.AbstractEventLoop | None = None) -> Lease[L]:
        """Claim the link of ``key``: on ``loop`` if that is the key's own loop or the first to ask, else on
        the I/O loop thread.
        """
        with self._lock:
            entry = self._own_entry(key, opener, loop) if loop is not None else None
            if entry is None:
                entry = self._portal_entry(key, opener)
            entry.count += 1
            return Lease(self, key, entry)

    def portal(self) -> Portal:
        """The I/O loop thread; alive for as long as a link lives on it."""
        with self._lock:
            if self._portal is None:
                self._portal = Portal()
            return self._portal

    def portal_of(self, loop: asyncio.AbstractEventLoop) -> Portal:
        """The I/O loop thread, if ``loop`` is still its loop.

        Raises:
            ClosedError: the thread has ended with the last link that lived there.
        """
        with self._lock:
            if self._portal is None or self._portal.loop is not loop:
                raise ClosedError("this client has been closed; create a new one")
            return self._portal

    def links(self) -> int:
        """How many links are shared right now."""
        with self._lock:
            return len(self._entries)

    def _own_entry(self, key: Hashable, opener: Opener[L], loop: asyncio.AbstractEventLoop) -> _Entry[L] | None:
        if self._portal is not None and loop is self._portal.loop:
            return None
        entry = self._entries.get((key, False))
        if entry is None or entry.loop.is_closed():
            # A loop that was closed without closing its clients takes its link along.
            entry = self._entries[key, False] = _Entry(loop, opener, on_portal=False)
        return entry if entry.loop is loop else None

    def _portal_entry(self, key: Hashable, opener: Opener[L]) -> _Entry[L]:
        entry = self._entries.get((key, True))
        if entry is None:
            entry = self._entries[key, True] = _Entry(self.portal().loop, opener, on_portal=True)
            self._portal_users += 1
        return entry

    def drop(self, key: Hashable, entry: _Entry[Any]) -> bool:
        """Take one claim off ``entry``; True: it was the last, close it now."""
        with self._lock:
            entry.count -= 1
            if entry.count:
                return False
            if self._entries.get((key, entry.on_portal)) is entry:
                del self._entries[key, entry.on_portal]
            return True

    def portal_unused(self, entry: _Entry[Any], *, join: bool) -> None:
        """A link has closed: stop the I/O loop thread if it was the last one there."""
        if not entry.on_portal:
            return
        with self._lock:
            self._portal_users -= 1
            portal = self._portal if self._portal_users == 0 else None
            if portal is not None:
                self._portal = None
        if portal is not None:
            portal.stop(join=join)


class _Process:
    """Holds the table of this process; a forked child begins with an empty one."""

    def __init__(self) -> None:
        self.table = ConnectionTable()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self.table = ConnectionTable()


_process = _Process()


def process_table() -> ConnectionTable:
    """The table of this process. A different object after a fork: compare with ``is`` to notice one."""
    return _process.table
