"""Keeping a connection: made, prepared by hooks, given to everybody, lost, made again; until it is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextvars import Context, ContextVar
from typing import Any

from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.ports import ConnectionEvent
from tranship_redis._audience import Audience
from tranship_redis._backoff import Backoff, until_ready
from tranship_redis._connect import Dialler
from tranship_redis._errors import Lost, again, unsent
from tranship_redis._handshake import greet
from tranship_redis._liveness import Liveness
from tranship_redis._options import RedisOptions
from tranship_redis._server import ServerInfo
from tranship_redis._wire import Wire

__all__ = ["Lifeline"]

log = logging.getLogger("tranship.redis")

_preparing: ContextVar[Wire | None] = ContextVar("tranship_redis_preparing", default=None)
"""The connection that the running hook prepares."""


class Lifeline(Audience):
    """A connection that comes back by itself, bound to the loop it was opened on.

    Args:
        dialler: connects; nobody else uses it at the same time.
        options: the URL's.
        pubsub: for subscriptions on a server that speaks RESP2 only, where a connection with subscriptions
            can do nothing else.
    """

    def __init__(self, dialler: Dialler, options: RedisOptions, *, pubsub: bool = False) -> None:
        super().__init__()
        self.generation = 0
        """How often it has connected; 0: never yet."""
        self.up = False
        """Connected, and every hook done."""
        self.closed = False
        """Not to be used any more."""
        self.companions: dict[type, object] = {}
        """What its users share and is about this connection, by class."""
        self.server = ServerInfo(is_resp3=options.protocol == 3)
        """What the server said of itself when we connected last."""
        self._dialler = dialler
        self._options = options
        self._pubsub = pubsub
        self._wire: Wire | None = None
        self._young: Wire | None = None  # connected, but not for everybody yet
        self._last: Wire | None = None
        self._life: Liveness | None = None
        self._why: TranshipError = BrokerUnreachable(f"{self.place} has not been connected to")
        self._task: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._end = self._end_with_the_loop()

    @property
    def place(self) -> str:
        """``host:port`` or the socket's path."""
        return self._dialler.place

    async def open(self) -> None:
        """Connect, look at the server, load the scripts and run the hooks.

        Bound: ``connect_timeout``. Cancelled, or failed: closed.

        Raises:
            BrokerUnreachable: nobody there in time, or not ready in time.
            BrokerRefused: wrong password, no rights, not a server that can serve us.
            UnsupportedError: too old, or a cluster.
            ClosedError: opened or closed before, or closed meanwhile.
        """
        self._check_unopened()
        await anext(self._end)
        try:
            await self._start(until_ready(self._connect, self._options.connect_timeout, self._dialler.silence))
        except BaseException as error:
            closed_by_another = self.closed
            await self.aclose()
            if closed_by_another and isinstance(error, asyncio.CancelledError) and not _is_cancelled():
                raise self._over() from None
            raise

    async def aclose(self) -> None:
        """Close the connection and stop connecting. What waits for an answer gets ClosedError. Idempotent."""
        self.closed, self.up = True, False
        wire = self._last = self._wire or self._young or self._last
        self._wire = None
        self._stop_liveness()
        if wire is not None:
            wire.fail(self._over(), self._over())
        try:
            await self._stop_connecting()
        finally:
            if wire is not None:
                await wire.close()
            await self._end.aclose()

    def hurry(self) -> None:
        """Somebody else has reached the server: where this one waits before its next try, it need not any more."""
        self._backoff.hurry()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "up" if self.up else "down"
        return f"{type(self).__name__}({self.place!r}, {state}, generation={self.generation})"

    def _early(self) -> Wire:
        """Return the connection that is being prepared, for hooks and for callbacks of answers and pushes.

        Raises:
            BrokerUnreachable, BrokerRefused: there is no connection, for the reason named.
            ClosedError: there will be none.
        """
        young = self._young
        if young is not None and not young.gone and (young.dispatching or _preparing.get() is young):
            return young
        raise self._over() if self.closed else again(self._why)

    def _over(self) -> ClosedError:
        return ClosedError(f"the connection to {self.place} has been closed; open a new backend")

    def _check_unopened(self) -> None:
        if self.closed:
            raise self._over()
        if self._task is not None:
            raise ClosedError(f"the connection to {self.place} was opened before; open a new backend")

    # Connecting.

    def _start(self, connecting: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(connecting, context=Context())
        return self._task

    async def _connect(self) -> None:
        async with asyncio.timeout(self._options.connect_timeout):
            writer = await self._dialler.dial()
        wire = self._young = Wire(writer, self._pushes, self._down, subscriber=self._pubsub)
        life = Liveness(wire, timeout=self._options.command_timeout, keepalive=self._options.keepalive)
        try:
            await self._prepare(wire)
        except BaseException:
            life.stop()
            await self._discard(wire)
            raise
        finally:
            self._young = None
        self._wire, self._life, self.up = wire, life, True
        self._backoff.connected()

    async def _prepare(self, wire: Wire) -> None:
        async with asyncio.timeout(self._options.connect_timeout):
            is_resp3, was_master = self._dialler.protocol == 3, self.generation > 0
            greeting = greet(wire, self.place, is_resp3=is_resp3, load=not self._pubsub, was_master=was_master)
            self.server = await greeting
        self.generation += 1
        _preparing.set(wire)
        await self._run_hooks()
        if wire.gone:
            raise again(self._why)

    async def _discard(self, wire: Wire) -> None:
        error = BrokerUnreachable(f"{self.place}: the connection was given up before it was ready")
        wire.fail(error, error)
        await wire.close()

    async def _reconnect(self) -> None:
        while True:
            await self._backoff.pause()
            try:
                await self._connect()
            except (TranshipError, TimeoutError) as error:
                self._failed(error)
            except Exception as error:
                log.exception("a hook failed after connecting to %s", self.place)
                self._failed(error)
            else:
                log.info("connected to %s again", self.place)
                return self._announce(ConnectionEvent.RESTORED, self.generation)

    def _failed(self, reason: Exception) -> None:
        error = unsent(reason, self._dialler.silence)
        news = type(error) is not type(self._why)
        log.log(logging.WARNING if news else logging.DEBUG, "cannot connect to %s: %s", self.place, error)
        self._why = error

    async def _stop_connecting(self) -> None:
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait({task})

    async def _end_with_the_loop(self) -> AsyncGenerator[None]:
        """Suspended for as long as we are open; a loop that is shut down finishes what it finds like this.

        Else a program that ends without closing its client would leave a socket behind.
        """
        try:
            yield
        finally:
            self.closed, self.up = True, False
            for wire in (self._wire, self._young):
                if wire is not None:
                    wire.fail(self._over(), self._over())
                    wire.drop()

    # Losing.

    def _down(self, wire: Wire, why: str, cause: BaseException | None) -> None:
        lost, never_sent = Lost(f"{self.place}: {why}"), BrokerUnreachable(f"{self.place}: {why}")
        lost.__cause__ = never_sent.__cause__ = cause
        was_up = wire is self._wire
        self._why = never_sent
        if was_up:
            self._wire, self.up = None, False
            self._stop_liveness()
        wire.fail(lost, never_sent)
        if was_up:
            log.warning("lost the connection to %s: %s", self.place, why)
            self._start(self._reconnect())
            self._announce(ConnectionEvent.LOST, self.generation)

    def _stop_liveness(self) -> None:
        if self._life is not None:
            self._life.stop()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
