"""How a client finds its link: leased from the process's table, per event loop, anew after a fork."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING

from tranship._defaults import default_registry, say_default
from tranship.connections import Lease, process_table
from tranship.errors import ClosedError
from tranship.settings import Settings

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship.client._link import ClientLink
    from tranship.registry import Registry

__all__ = ["Connector"]

log = logging.getLogger("tranship.client")


class Connector:
    """The connections of one client object; used by the blocking and the asynchronous one alike.

    Mutable state: the table, the leases by event loop (None: the I/O loop thread) and the links opened so far.
    Leases are taken and given back under the lock: one that is taken twice would never be given back.

    Args:
        settings: where to connect to.
        registry: the plugins to choose from; None: those installed.
        share: links are shared with those that gave the same only.
        queued_elsewhere: only results are read here; an id that is unknown may be queued at another broker.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry | None,
        *,
        share: Hashable = None,
        queued_elsewhere: bool = False,
    ) -> None:
        self.settings = settings
        self._share = share
        self._queued_elsewhere = queued_elsewhere
        self.closed: bool = False
        self._registry = registry
        self._table = process_table()
        self._leases: dict[asyncio.AbstractEventLoop | None, Lease[ClientLink]] = {}
        self._links: dict[asyncio.AbstractEventLoop | None, ClientLink] = {}
        # Reentrant: a signal's handler may submit while its thread is just opening the client.
        self._lock = threading.RLock()

    def opened(self, loop: asyncio.AbstractEventLoop | None) -> ClientLink | None:
        """The link for callers on ``loop`` if it is open, without waiting: the hot path."""
        link = self._links.get(loop)
        return link if self._table is process_table() else None

    def any_link(self) -> ClientLink:
        """A link that is open on some loop.

        Raises:
            ClosedError: there is none.
        """
        for link in self._links.values():
            return link
        raise ClosedError("this client is not open; use it in a with block, or submit something first")

    async def link(self) -> ClientLink:
        """The opened link for callers on the running loop.

        Raises:
            ClosedError: the client has been closed.
            Whatever opening raises.
        """
        loop = asyncio.get_running_loop()
        link = self.opened(loop)
        if link is None:
            link = self._links[loop] = await self._lease(loop).open()
        return link

    def blocking_link(self, timeout: float | None = None) -> ClientLink:
        """The opened link for callers without a loop: the one on the I/O loop thread.

        Raises:
            TimeoutError: it was not open within ``timeout`` seconds.
            ClosedError and whatever opening raises.
        """
        link = self.opened(None)
        if link is None:
            lease = self._lease(None)
            link = self._links[None] = self._table.portal().run(asyncio.wait_for(lease.open(), timeout))
        return link

    async def aclose(self) -> None:
        """Give all claims back. Idempotent."""
        self.closed = True
        for lease in self._take_leases():
            await lease.release()

    def close(self) -> None:
        """The same, from a thread without a loop."""
        self.closed = True
        for lease in self._take_leases():
            lease.release_blocking()

    def _take_leases(self) -> list[Lease[ClientLink]]:
        if self._table is not process_table():
            return []
        with self._lock:
            leases = list(self._leases.values())
            self._leases.clear()
            self._links.clear()
        return leases

    def _lease(self, loop: asyncio.AbstractEventLoop | None) -> Lease[ClientLink]:
        self._forget_parent()
        with self._lock:
            if self.closed:
                raise ClosedError("this client has been closed; create a new one")
            self._forget_closed_loops()
            if loop not in self._leases:
                self._claim(loop)
            return self._leases[loop]

    def _claim(self, loop: asyncio.AbstractEventLoop | None) -> None:
        from tranship.client._link import ClientLink, LinkKey

        table = self._table
        key = LinkKey.of(self.settings)._replace(share=self._share, queued_elsewhere=self._queued_elsewhere)
        say_default(table, self.settings)
        registry = self._registry or default_registry(table)
        if loop not in self._leases:  # a signal's handler may have been here meanwhile
            self._leases[loop] = table.lease(key, lambda: ClientLink.open(key, registry, table), loop)

    def _forget_parent(self) -> None:
        """A forked child leaves its parent's links alone; the lock may be held by a thread that is not here."""
        if self._table is not process_table():
            self._lock = threading.RLock()
            self._table = process_table()
            self._leases, self._links = {}, {}

    def _forget_closed_loops(self) -> None:
        """A closed event loop leaves links behind that nobody can use or close."""
        for loop in [loop for loop in self._leases if loop is not None and loop.is_closed()]:
            log.warning("an event loop was closed while a client was open on it; close the client first")
            del self._leases[loop]
            self._links.pop(loop, None)
