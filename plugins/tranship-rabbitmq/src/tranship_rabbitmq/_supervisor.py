"""The connection supervisor: connects, watches, and connects again, for as long as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.ports import ConnectionEvent
from tranship.protocol import whole_of
from tranship_rabbitmq._errors import blocked, error_of, retryable, trouble_at
from tranship_rabbitmq._hooks import Hook, Hooks
from tranship_rabbitmq._options import RabbitOptions
from tranship_rabbitmq._password import LOOK, PasswordFile
from tranship_rabbitmq.amqp.channel import Channel, Reply
from tranship_rabbitmq.amqp.connection import Connection, Place, dial
from tranship_rabbitmq.amqp.ends import Ended, WireEnded
from tranship_rabbitmq.amqp.wire import Wire

if TYPE_CHECKING:
    from tranship_rabbitmq.amqp.native import NativeConnection

__all__ = ["Supervisor"]

log = logging.getLogger("tranship.rabbitmq")

T = TypeVar("T")

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class Supervisor:
    """Keeps one connection.

    Args:
        places: the servers; one after the other is tried.
        options: its times.
        purpose: what it is for, behind its name in the server's tools.

    Attributes:
        generation: counts the connections; what came over an earlier one cannot be settled any more.
        server: what the server says of itself.
    """

    def __init__(self, places: Sequence[Place], options: RabbitOptions, purpose: str) -> None:
        self._places = list(places)
        self._options = options
        self.command_timeout = options.command_timeout
        """Seconds for an answer, and for a node to find its queues again."""
        self._purpose = purpose
        self.generation = 0
        self.server: Mapping[str, Any] = {}
        self._connection: Connection | None = None
        path = options.password_file
        self._password = None if path is None else PasswordFile(path)
        self._why: TranshipError = BrokerUnreachable("not connected yet")
        self._hooks = Hooks(lambda: self.up)
        self._when_up: list[Callable[[], object]] = []
        self._listeners: list[Callable[[ConnectionEvent, int], None]] = []
        self._watching: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()
        self._opening = asyncio.Lock()
        self.closed = False

    def beside(self, purpose: str) -> Supervisor:
        """Return another connection to the same servers, not opened yet."""
        return Supervisor(self._places, self._options, purpose)

    @property
    def wire(self) -> Wire:
        """The connection.

        Raises:
            BrokerUnreachable: there is none at the moment; it says why.
            ClosedError: there will be none any more.
        """
        return self._live().wire

    @property
    def native(self) -> NativeConnection:
        """The connection as aio-pika has it.

        Raises:
            BrokerUnreachable, ClosedError: as for :attr:`wire`.
        """
        return self._live().native

    def _live(self) -> Connection:
        if self.closed:
            raise ClosedError("the connection has been closed")
        connection = self._connection
        ended = None if connection is None else connection.wire.ended
        if connection is None or ended is not None:
            why = self._why if ended is None else _lost(ended)
            raise type(why)(str(why)) from why.__cause__
        return connection

    @property
    def version(self) -> tuple[int, ...]:
        """The server's version: two numbers, 0 where it says none."""
        said = str(self.server.get("version", ""))
        return tuple(whole_of(part) or 0 for part in said.split(".")[:2])

    @property
    def up(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._connection is not None and self._connection.wire.ended is None

    @property
    def lost(self) -> bool:
        """Whether there was a connection, and there will be one again."""
        return self._watching is not None and not self.up and not self.closed

    async def open(self) -> None:
        """Connect, if that has not been done.

        Raises:
            BrokerUnreachable, BrokerRefused: it could not.
        """
        async with self._opening:
            if self._watching is None and not self.closed:
                await self._connect_first()
                self._watching = asyncio.get_running_loop().create_task(self._supervise())
                if self._password is not None:
                    self._renewing = asyncio.get_running_loop().create_task(self._renew(self._password))

    async def _connect_first(self) -> None:
        await self._connect()
        if self.closed and self._connection is not None:
            # Meanwhile: who closed has seen no connection.
            await self._connection.aclose()
            raise ClosedError("the connection has been closed")

    async def aclose(self) -> None:
        """Take leave of the server. Idempotent."""
        self.closed = True
        tasks = [task for task in (self._watching, self._renewing) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._hooks.aclose()
        if self._connection is not None:
            await self._connection.aclose()

    def on_up(self, hook: Hook) -> Callable[[], None]:
        """Have ``hook`` awaited after each later connect, before anybody is told; return what removes it.

        One that fails while the connection is up is awaited again, until it does not.
        """
        return self._hooks.add(hook)

    def when_up(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, at the next connect."""
        if callback not in self._when_up:
            self._when_up.append(callback)

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        """Call ``listener`` when the connection was lost, and when it is back."""
        self._listeners.append(listener)

    def hurry(self) -> None:
        """The server seems to be back: connect now rather than after the pause."""
        self._hurried.set()

    async def channel(self) -> Channel:
        """Open a channel.

        Raises:
            BrokerUnreachable, BrokerRefused, ClosedError.
        """
        return await self.bounded(self.wire.channel(), doing="opening a channel")

    async def call(self, channel: Channel, doing: str, name: str, *arguments: Any) -> Reply:
        """Send a method on ``channel`` and return its reply.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull: what became of it.
            ChannelEnded: the server closed the channel over it.
        """
        return await self.bounded(channel.call(name, *arguments), doing=doing)

    async def bounded(self, work: Awaitable[T], *, doing: str) -> T:
        """Await ``work`` on the connection for ``command_timeout`` at most.

        A server that does not answer in time is given up, unless it has said that it is blocked.

        Raises:
            BrokerUnreachable, StorageFull.
            Ended: as ``work`` raises it, where it is about a channel.
        """
        wire = None if self._connection is None else self._connection.wire
        seconds = self.command_timeout
        try:
            async with asyncio.timeout(seconds):
                return await work
        except WireEnded as error:
            raise _lost(error, doing) from error
        except TimeoutError:
            if wire is not None and wire.blocked is not None:
                raise blocked(wire.blocked, doing=doing) from None
            if wire is not None:
                wire.end(WireEnded(f"the server has not answered for {seconds:g} s"))
            raise BrokerUnreachable(f"{doing}: the server has not answered for {seconds:g} s") from None

    # Supervision.

    async def _supervise(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while True:
                assert self._connection is not None
                wire = self._connection.wire
                await asyncio.wait({wire.done})
                if wire.ended is not None:
                    self._give_up(_lost(wire.ended))
                    log.info("%s", self._why)
                self._hooks.interrupt()
                self._tell(ConnectionEvent.LOST)
                pause = await self._until_back(pause)
                self._tell(ConnectionEvent.RESTORED)
        finally:
            if not self.closed and self._connection is not None:
                # The loop ends without our having been closed; the socket must not outlive it.
                self._connection.wire.end(WireEnded("the event loop has ended"))

    async def _until_back(self, pause: float) -> float:
        while True:
            await self._pause(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                await self._connect()
                await self._hooks.run()
            except TranshipError as error:
                self._give_up(retryable(error))
                log.debug("connecting again failed: %s", error)
            else:
                return _FIRST_PAUSE

    def _give_up(self, why: TranshipError) -> None:
        """The connection has ended; from now on the latest reason is told."""
        self._why = why
        if not self.up:
            self._connection = None

    async def _pause(self, seconds: float) -> None:
        self._hurried.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    async def _connect(self) -> None:
        """Try each server once.

        Raises:
            BrokerUnreachable, BrokerRefused: none would have us; the last one's words.
            ConfigurationError: there is no password.
        """
        password = None if self._password is None else self._password.read()
        error: TranshipError = BrokerUnreachable("the URL names no server")
        for place in list(self._places):
            try:
                async with asyncio.timeout(self._options.connect_timeout):
                    self._connection = await dial(self._as(place, password))
            except TimeoutError:
                silence = f"no answer for {self._options.connect_timeout:g} s"
                error = trouble_at(_name(place), TimeoutError(silence))
            except (Ended, OSError) as why:
                error = trouble_at(_name(place), why)
            else:
                self.server = self._connection.server
                self.generation += 1
                waiting, self._when_up = self._when_up, []
                for callback in waiting:
                    callback()
                return
            # The next attempt begins with the next server.
            self._places.append(self._places.pop(0))
        self._why = error
        raise error

    def _as(self, place: Place, password: str | None) -> Place:
        """Return ``place`` with our name there, and with ``password`` if it is not the URL's."""
        name = f"{place.name} ({self._purpose})"
        return replace(place, name=name, password=place.password if password is None else password)

    async def _renew(self, password: PasswordFile) -> None:
        """Have the server know a new password before the old one expires."""

        async def tell(found: str) -> None:
            await self.bounded(self._live().update_secret(found), doing="telling the server the new password")

        while True:
            await asyncio.sleep(LOOK)
            if self.up:
                await password.renew(tell)

    def _tell(self, event: ConnectionEvent) -> None:
        for listener in list(self._listeners):
            try:
                listener(event, self.generation)
            except Exception:
                log.exception("a listener of the connection failed")


def _name(place: Place) -> str:
    return f"RabbitMQ at {place.host}:{place.port}"


def _lost(why: Ended, doing: str = "the connection to RabbitMQ") -> TranshipError:
    return retryable(error_of(why, doing=doing))
