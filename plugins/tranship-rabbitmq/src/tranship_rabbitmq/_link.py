"""One AMQP connection, dialled once: its channels, and a time limit for whatever is asked over it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.protocol import whole_of
from tranship_rabbitmq._errors import blocked, error_of, retryable, trouble_at
from tranship_rabbitmq._options import RabbitOptions
from tranship_rabbitmq._password import LOOK, PasswordFile
from tranship_rabbitmq.amqp.channel import Channel, Reply
from tranship_rabbitmq.amqp.connection import Connection, Place, dial
from tranship_rabbitmq.amqp.ends import Ended, WireEnded
from tranship_rabbitmq.amqp.wire import Wire

if TYPE_CHECKING:
    from tranship_rabbitmq.amqp.native import NativeConnection

__all__ = ["Dialler", "Link"]

T = TypeVar("T")


class Dialler:
    """Connects to one of the servers of a URL.

    Args:
        places: the servers; one after the other is tried.
        options: its times.
    """

    def __init__(self, places: Sequence[Place], options: RabbitOptions) -> None:
        self._places = list(places)
        self.options = options

    async def dial(self, purpose: str, password: str | None) -> Connection:
        """Try each server once.

        Args:
            purpose: what the connection is for, behind its name in the server's tools.
            password: None: the URL's.

        Raises:
            BrokerUnreachable, BrokerRefused: none would have us; the last one's words.
        """
        error: TranshipError = BrokerUnreachable("the URL names no server")
        for place in list(self._places):
            own = replace(
                place,
                name=f"{place.name} ({purpose})",
                password=place.password if password is None else password,
            )
            try:
                async with asyncio.timeout(self.options.connect_timeout):
                    return await dial(own)
            except TimeoutError:
                silence = TimeoutError(f"no answer for {self.options.connect_timeout:g} s")
                error = trouble_at(_name(place), silence)
            except (Ended, OSError) as why:
                error = trouble_at(_name(place), why)
            # The next attempt begins with the next server.
            self._places.append(self._places.pop(0))
        raise error


class Link:
    """A connection that is made when it is first needed, and never again.

    Args:
        dialler: connects.
        purpose: what it is for.
        went: called with the reason when it has ended.
    """

    def __init__(
        self, dialler: Dialler, purpose: str, went: Callable[[TranshipError], object] = lambda _why: None
    ) -> None:
        self._dialler, self._purpose, self._went = dialler, purpose, went
        self.command_timeout = dialler.options.command_timeout
        """Seconds for an answer, and for a node to find its queues again."""
        path = dialler.options.password_file
        self._password = None if path is None else PasswordFile(path)
        self._renewing: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    @property
    def wire(self) -> Wire:
        """The frames of the connection.

        Raises:
            BrokerUnreachable: it has ended; it says why.
        """
        return self._live().wire

    @property
    def native(self) -> NativeConnection:
        """The connection as aio-pika has it.

        Raises:
            BrokerUnreachable: it has ended.
        """
        return self._live().native

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and self._connection.wire.ended is None

    @property
    def server(self) -> Mapping[str, Any]:
        """What the server says of itself."""
        return {} if self._connection is None else self._connection.server

    @property
    def version(self) -> tuple[int, ...]:
        """The server's version: two numbers, 0 where it says none."""
        said = str(self.server.get("version", ""))
        return tuple(whole_of(part) or 0 for part in said.split(".")[:2])

    async def open(self) -> None:
        """Connect, if that has not been done.

        Raises:
            BrokerUnreachable, BrokerRefused: it could not.
            ConfigurationError: there is no password.
        """
        if self._connection is not None:
            return
        async with self._opening:
            if self._connection is None and not self._closed:
                password = None if self._password is None else self._password.read()
                connection = self._connection = await self._dialler.dial(self._purpose, password)
                connection.wire.done.add_done_callback(lambda _done: self._went(_lost(connection.wire.ended)))
                if self._password is not None:
                    self._renewing = asyncio.get_running_loop().create_task(self._renew(connection, self._password))

    def end(self, why: str) -> None:
        """Give it up."""
        if self._connection is not None:
            self._connection.wire.end(WireEnded(why))

    async def aclose(self) -> None:
        """Take leave of the server. Idempotent."""
        self._closed = True
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})
        if self._connection is not None:
            await self._connection.aclose()

    async def channel(self) -> Channel:
        """Open a channel.

        Raises:
            BrokerUnreachable, BrokerRefused.
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

        A server that does not answer in time is given up, unless it has said that it is blocked: so the time limits of
        the driver kit, which give the connection up, are not used.

        Raises:
            BrokerUnreachable, StorageFull.
            Ended: as ``work`` raises it, where it is about a channel.
        """
        wire, seconds = None if self._connection is None else self._connection.wire, self.command_timeout
        try:
            async with asyncio.timeout(seconds):
                return await work
        except WireEnded as error:
            raise _lost(error, doing) from error
        except TimeoutError:
            if wire is not None and wire.blocked is not None:
                raise blocked(wire.blocked, doing=doing) from None
            self.end(f"the server has not answered for {seconds:g} s")
            raise BrokerUnreachable(f"{doing}: the server has not answered for {seconds:g} s") from None

    def _live(self) -> Connection:
        connection = self._connection
        if connection is None:
            raise ClosedError("the connection has been closed, or was not opened")
        if connection.wire.ended is not None:
            raise _lost(connection.wire.ended)
        return connection

    async def _renew(self, connection: Connection, password: PasswordFile) -> None:
        """Have the server know a new password before the old one expires."""

        async def tell(found: str) -> None:
            await self.bounded(connection.update_secret(found), doing="telling the server the new password")

        while self.up:
            await asyncio.sleep(LOOK)
            if self.up:
                await password.renew(tell)


def _name(place: Place) -> str:
    return f"RabbitMQ at {place.host}:{place.port}"


def _lost(why: Ended | None, doing: str = "the connection to RabbitMQ") -> TranshipError:
    return retryable(error_of(why or WireEnded("the connection was lost"), doing=doing))
