"""One broker of several: used, lost, probed, used again; nobody else waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tranship.errors import (
    BrokerError,
    BrokerGone,
    BrokerUnreachable,
    ClosedError,
    StorageCorrupt,
    StorageFull,
    SubmitUnknown,
    TranshipError,
)
from tranship.ports import Backend, ConnectionEvent
from tranship.routing._background import Background
from tranship.routing._breaker import Breaker
from tranship.routing._link import MemberLink, bug
from tranship.routing._options import RoutingOptions
from tranship.settings import BrokerURL, CommonOptions

__all__ = ["Member"]

log = logging.getLogger("tranship.routing")

T = TypeVar("T")


class Member:
    """A broker and its circuit breaker.

    Mutable state: its link, the breaker, what was counted. ``_mending`` is the one task that brings it back.

    Args:
        url: the broker.
        weight: its share.
        make: makes a backend for a URL, not opened.
        options: the router's.
        background: where it is brought back.
    """

    def __init__(
        self,
        url: BrokerURL,
        weight: float,
        make: Callable[[BrokerURL], Backend],
        options: RoutingOptions,
        background: Background,
    ) -> None:
        self.url: str = str(url)
        # Made first: it checks the options.
        self._link = MemberLink(self.url, lambda: make(url), self._event)
        self.weight = weight
        hosts = ",".join(f"{host}:{port or ''}" for host, port in url.hosts)
        self.place: str = f"{url.scheme}://{hosts}{url.path}"
        """What tells it from the others, without secrets and options."""
        self.accepted: int = 0
        self.failures: int = 0
        self.lease: float = float(url.options.get("lease", CommonOptions.lease))
        """How long its leases are, as far as its URL says: known before it is open."""
        self.cause: TranshipError | None = None
        """What failed last; why it is not used."""
        self.join: Callable[[Member, bool], Awaitable[None]] = _nobody_joins
        """Awaited before it is used again; told whether its backend is a new one. It may refuse."""
        self.told: Callable[[Member, ConnectionEvent], None] = _nobody_listens
        """Called when it is not used any more, and when it is again."""
        self.breaker: Breaker = Breaker(options.breaker_failures, options.breaker_pause, options.breaker_longest_pause)
        self._options = options
        self._background = background
        self._closed = False
        self._full_until = 0.0
        self._mending: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    @property
    def backend(self) -> Backend:
        """The one in use; another one after it was opened anew."""
        return self._link.backend

    @property
    def opened(self) -> bool:
        """Whether its backend is open."""
        return self._link.opened

    @property
    def usable(self) -> bool:
        """Whether it may be asked for something."""
        return self._link.opened and self.breaker.is_closed and not self._closed

    @property
    def accepting(self) -> bool:
        """Whether it may be given tasks: usable, and not full a moment ago."""
        return self.usable and time.monotonic() >= self._full_until

    @property
    def down_since(self) -> float | None:
        """Monotonic seconds since which it is not used; None: it is."""
        return self.breaker.opened_at

    async def open(self) -> None:
        """Open it for the first time; a failure is kept in :attr:`cause`, and it is tried again later."""
        try:
            await self._link.open(self._join)
        except TranshipError as error:
            self._trip(error)

    async def aclose(self) -> None:
        """Stop bringing it back and close its backend, within bounds. Idempotent."""
        self._closed = True
        if self._mending is not None and not self._mending.done():
            self._mending.cancel()
            await asyncio.wait({self._mending})
        await self._link.aclose()

    # What happened to calls.

    def took(self, count: int) -> None:
        """It has accepted ``count`` tasks."""
        self.accepted += count
        self.breaker.worked()

    def failed(self, error: TranshipError, backend: Backend | None = None) -> None:
        """A call failed with ``error``; ``backend``: the one it was made on, which may be a former one.

        Only what is about the broker counts.
        """
        if (backend is not None and backend is not self.backend) or not self.opened or self._closed:
            return
        if isinstance(error, BrokerGone | StorageCorrupt | ClosedError):
            self._link.opened = False
            self._trip(error)
        elif isinstance(error, BrokerError | SubmitUnknown):
            self.failures += 1
            self.cause = error
            if isinstance(error, StorageFull):
                # Workers go on emptying it.
                self._full_until = time.monotonic() + self._options.breaker_pause
            elif self.breaker.failed(time.monotonic()):
                self._left(error)

    def set_aside(self, error: TranshipError) -> None:
        """Do not use it before it has been asked whether it is well, and has joined again."""
        if self.usable:
            self._trip(error)

    async def call(self, work: Callable[[Backend], Awaitable[T]]) -> T:
        """Do ``work`` with the backend, within the answer timeout, and note how it went.

        Raises:
            BrokerUnreachable: it did not answer in time, or is not open.
            TranshipError: whatever else the driver says.
        """
        backend = self.backend
        if not self.opened:
            raise BrokerUnreachable(f"{self.url} is away: {self.cause}")
        try:
            async with asyncio.timeout(self._options.answer_timeout):
                answer = await work(backend)
        except TimeoutError as late:
            error: TranshipError = self.silent()
            error.__cause__ = late
        except TranshipError as said:
            error = said
        except Exception as unexpected:  # noqa: BLE001 - a driver's bug is its own broker's outage
            error = bug(self.url, "a call", unexpected)
        else:
            self.breaker.worked()
            return answer
        self.failed(error, backend)
        raise error

    def silent(self) -> BrokerUnreachable:
        """The error for no answer in time."""
        return BrokerUnreachable(f"{self.url} has not answered within {self._options.answer_timeout:g} s")

    # Coming and going.

    def _trip(self, error: TranshipError) -> None:
        self.failures += 1
        if self.breaker.trip(time.monotonic()):
            self._left(error)

    def _left(self, error: TranshipError) -> None:
        self.cause = error
        if self._closed:
            return
        log.warning("broker %s is not used for now: %s", self.url, error)
        self.told(self, ConnectionEvent.LOST)
        if self._mending is None or self._mending.done():
            self._mending = self._background.start(self._come_back())

    async def _come_back(self) -> None:
        while not self.breaker.is_closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), self.breaker.pause())
            self._hurry.clear()
            self.breaker.probe()
            try:
                await self._probe()
            except TranshipError as error:
                self.breaker.trip(time.monotonic())
                self.cause = error
                log.debug("broker %s is still away: %s", self.url, error)
            else:
                self._back()

    async def _probe(self) -> None:
        if not self._link.opened:
            await self._link.open(self._join)
            return
        try:
            await self._link.check(self._join, self._options.answer_timeout)
        except TimeoutError as error:
            raise self.silent() from error

    async def _join(self, is_new: bool) -> None:
        await self.join(self, is_new)

    def _back(self) -> None:
        self.cause = None
        self.breaker.close(time.monotonic())
        log.warning("broker %s is used again", self.url)
        self.told(self, ConnectionEvent.RESTORED)

    def _event(self, event: ConnectionEvent) -> None:
        if event is ConnectionEvent.LOST:
            self._trip(BrokerUnreachable(f"the connection to {self.url} was lost"))
        else:
            self._hurry.set()


async def _nobody_joins(_member: Member, _is_new: bool) -> None:
    pass


def _nobody_listens(_member: Member, _event: ConnectionEvent) -> None:
    pass
