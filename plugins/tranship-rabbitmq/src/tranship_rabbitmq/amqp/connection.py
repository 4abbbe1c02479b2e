"""One connection: aiormq logs in, tunes and beats; the frames of our channels go past its reader.

This module and :mod:`~tranship_rabbitmq.amqp.native` are the only ones that know aiormq and aio-pika. aiormq is given a
``TransportFactory``, which is public, with a protocol of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ipaddress
import logging
import platform
import ssl
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, cast

import aiormq
from aiormq.abc import AbstractChannel, ChannelFrame, TaskWrapper
from aiormq.connection import TransportFactory
from yarl import URL

from tranship_rabbitmq.amqp.ends import WireEnded
from tranship_rabbitmq.amqp.wire import GREETING, Wire

if TYPE_CHECKING:
    from tranship_rabbitmq.amqp.native import NativeConnection

__all__ = ["Connection", "Place", "dial"]

log: logging.Logger = logging.getLogger("tranship.rabbitmq")

_GOODBYE: Final = 2.0
"""Seconds the server gets to take its leave."""
_NEXT_ADDRESS: Final = 0.25
"""Seconds after which the next address of a host is tried beside the one before (RFC 8305)."""
_CAPABILITIES: Final = {
    "publisher_confirms": True,
    "consumer_cancel_notify": True,
    "basic.nack": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
    "exchange_exchange_bindings": True,
}
_UPDATE_SECRET: Final = b"\0\x0a\0\x46"
"""Begins the method that carries a new password."""
_is_ours: Final = contextvars.ContextVar("tranship.rabbitmq", default=False)
"""Whether what runs is aiormq's own work for a connection of ours."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is, and as whom to be there."""

    host: str
    port: int
    vhost: str
    username: str
    password: str = field(repr=False)
    heartbeat: int
    """Seconds; 0: none."""
    name: str
    """What the server's tools call the connection."""
    tls: ssl.SSLContext | None = None
    external: bool = False
    """Whether the certificate says who we are, and no password does."""


async def dial(place: Place) -> Connection:
    """Return an open connection. The caller bounds it.

    Raises:
        WireEnded: the server refused, or is none.
        OSError, ssl.SSLError: nobody is there, or not whom we trust.
    """
    wire = Wire(place.heartbeat)
    streams = await _streams(place, wire)
    client = _Client(place, wire, _Transport(*streams))
    try:
        await _log_in(client, place, wire)
    except BaseException:
        wire.end(WireEnded("connecting failed"))
        await asyncio.wait({wire.gone}, timeout=_GOODBYE)
        raise
    wire.watch()
    return Connection(wire, client)


async def _streams(place: Place, wire: Wire) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    # Loops that are not asyncio's own, such as uvloop's, do not have it. And where there is nothing to choose from, it
    # would only leave the socket to the garbage collector when it is cancelled at the wrong moment.
    race = isinstance(loop, asyncio.BaseEventLoop) and not _is_address(place.host)
    more: dict[str, Any] = {"happy_eyeballs_delay": _NEXT_ADDRESS} if race else {}
    transport, protocol = await loop.create_connection(
        lambda: _Protocol(reader, wire), place.host, place.port, ssl=place.tls, **more
    )
    return reader, _Writer(transport, protocol, reader, loop)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _log_in(client: _Client, place: Place, wire: Wire) -> None:
    context = contextvars.copy_context()
    context.run(_is_ours.set, True)
    logging.getLogger("aiormq.connection").addFilter(_QUIET)
    opening = asyncio.get_running_loop().create_task(client.connect(), context=context)
    opening.add_done_callback(_look)
    try:
        await asyncio.wait({opening})
    finally:
        if not opening.done():
            # First the socket: aiormq waits for the server to take its leave.
            wire.end(WireEnded("connecting failed"))
            opening.cancel()
            await asyncio.wait({opening}, timeout=_GOODBYE)
    error = opening.exception()
    if error is not None:
        raise _refusal(place, wire, error)


def _look(done: asyncio.Future[Any]) -> None:
    """Look at the error of what nobody may wait for any more: asyncio would report it as lost."""
    if not done.cancelled():
        done.exception()


def _refusal(place: Place, wire: Wire, error: BaseException) -> WireEnded:
    """Return why the server would not have us. What it said before it left says more than what aiormq makes of it."""
    why = wire.ended
    if why is None:
        text = str(error)
        if isinstance(error, aiormq.exceptions.AuthenticationError):
            text = f"the server offers to log in by {error.args[0]} only"
        why = WireEnded(text)
        why.__cause__ = error
    if place.tls is None and not why.code and not wire.greeted:
        hint = WireEnded(f"{why.text}, before a word was said; if that port speaks TLS, use amqps://")
        hint.__cause__ = why
        return hint
    return why


class Connection:
    """A connection that :func:`dial` has made. It ends with its wire, and is never repaired.

    Args:
        wire: its frames.
        client: aiormq's part of it.
    """

    def __init__(self, wire: Wire, client: _Client) -> None:
        self.wire = wire
        self._client = client
        self._native: NativeConnection | None = None
        self._ending = asyncio.get_running_loop().create_task(self._end())
        client.closing.add_done_callback(self._client_closed)

    @property
    def server(self) -> Mapping[str, Any]:
        """What the server says of itself."""
        return cast("Mapping[str, Any]", self._client.server_properties)

    @property
    def native(self) -> NativeConnection:
        """The same connection for users of aio-pika, whose channels live beside ours."""
        if self._native is None:
            from tranship_rabbitmq.amqp.native import NativeConnection

            self._native = NativeConnection(self._client)
        return self._native

    async def update_secret(self, password: str) -> None:
        """Have the server know a new password, or token, before the one it knows expires. The caller bounds it.

        Raises:
            WireEnded: it would not have it, or the connection was lost.
        """
        update = self._client.update_secret(password, reason="rotated")
        telling: asyncio.Future[Any] = asyncio.ensure_future(update)
        telling.add_done_callback(_look)
        try:
            # aiormq would wait for an answer over a connection that has been lost, too.
            await asyncio.wait({telling, self.wire.done}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            await asyncio.wait({telling})
        if self.wire.ended is not None:
            raise WireEnded(self.wire.ended.text, self.wire.ended.code)
        telling.result()

    async def aclose(self) -> None:
        """Take leave: everything that was written before is heard by the server first, if it still answers."""
        self.wire.leave()
        await asyncio.wait({self.wire.done}, timeout=_GOODBYE)
        self.wire.end(WireEnded("the connection was closed"))
        await asyncio.wait({self.wire.gone, self._ending}, timeout=_GOODBYE)

    async def _end(self) -> None:
        """End what aiormq runs, once the wire has ended."""
        await asyncio.wait({self.wire.done})
        why = self.wire.ended
        assert why is not None
        with contextlib.suppress(aiormq.AMQPError):
            await self._client.close(aiormq.exceptions.ConnectionClosed(why.code, why.text))
            if self._native is not None:
                await self._native.close()

    def _client_closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self.wire.end(WireEnded(f"the connection was lost: {error}" if error else "the connection was closed"))


class _Client(aiormq.Connection):
    """aiormq's part: channel 0, and the channels of those who use it themselves."""

    heartbeat_timeout: int

    def __init__(self, place: Place, wire: Wire, transport: TransportFactory) -> None:
        url = URL.build(
            scheme="amqp" if place.tls is None else "amqps",
            user=place.username,
            password=place.password,
            host=place.host,
            port=place.port,
            path="/",
            query={"heartbeat": str(place.heartbeat), "auth": "external" if place.external else "plain"},
        )
        super().__init__(url, transport_factory=transport, client_properties=_properties(place.name))
        # As it is: aiormq would decode it once more.
        self.vhost: str = place.vhost
        self._wire = wire
        wire.on_tuned = self._tuned

    def create_task(self, coro: Coroutine[Any, None, Any]) -> asyncio.Task[Any] | TaskWrapper:
        """Begin a task for one of aiormq's verbs, which waits for it unless it is cancelled in the same moment."""
        made = super().create_task(coro)
        made.add_done_callback(_look)
        return made

    def _tuned(self) -> None:
        self.heartbeat_timeout = self._wire.heartbeat

    def _on_reader_done(self, task: asyncio.Future[Any]) -> None:
        """End the wire, and with it everything else. aiormq would begin a task here, at the end of a loop, too."""
        error = None if task.cancelled() else task.exception()
        self._wire.left(error if isinstance(error, Exception) else None)

    async def channel(self, channel_number: int | None = None, *args: Any, **kwargs: Any) -> AbstractChannel:
        """Open a channel with one of the numbers that are not ours.

        Raises:
            ValueError: the number is not free, or there is none any more.
        """
        last = self._wire.native_max
        if channel_number is None:
            channel_number = next((free for free in range(1, last + 1) if free not in self.channels), last + 1)
        if channel_number > last:
            raise ValueError(f"the channel number {channel_number} is tranship's; free for others are 1 to {last}")
        return await super().channel(channel_number, *args, **kwargs)


class _Transport(TransportFactory):
    """Hands the streams of an open socket to aiormq."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams = reader, writer

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # noqa: ARG002
        return self._streams


class _Protocol(asyncio.StreamReaderProtocol):
    """Hands what comes to the wire; aiormq reads what that leaves."""

    def __init__(self, reader: asyncio.StreamReader, wire: Wire) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self._wire = wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire.begin(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        if rest := self._wire.received(data):
            super().data_received(rest)

    def eof_received(self) -> bool | None:
        # Now, as aiormq goes on writing to whom does not listen any more.
        self._wire.left()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wire.left(exc)
        with contextlib.suppress(asyncio.InvalidStateError):
            self._wire.gone.set_result(None)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wire.paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wire.resumed()


class _Writer(asyncio.StreamWriter):
    """Writes what aiormq says, but for the greeting, which has been said. That it cannot is the wire's to tell."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data != GREETING:
            super().write(data)

    async def drain(self) -> None:
        with contextlib.suppress(ConnectionError):
            await super().drain()


class _Quiet(logging.Filter):
    """Keeps aiormq silent about what is ours to tell, and never shows a new password."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not _is_ours.get():
            return True
        if record.levelno >= logging.WARNING:
            log.debug("aiormq: %s", record.getMessage())
            return False
        frames = [one for one in record.args or () if isinstance(one, ChannelFrame)]
        return not any(_UPDATE_SECRET in one.payload for one in frames)


_QUIET: Final = _Quiet()


def _properties(name: str) -> dict[str, Any]:
    return {
        "product": "tranship",
        "version": _version("tranship-rabbitmq"),
        "platform": f"Python {platform.python_version()}",
        "information": f"over aiormq {_version('aiormq')}",
        "connection_name": name,
        "capabilities": _CAPABILITIES,
    }


@cache
def _version(name: str) -> str:
    # Milliseconds each time: the whole description of the distribution is read for it.
    return version(name)
