"""One WebSocket, as a server speaks it: texts of a bounded size, one at a time. wsproto knows the protocol."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import generate_accept_token

__all__ = ["WebSocket", "accepted"]

READ: Final = 65_536


def accepted(key: str) -> str:
    """Return what a server answers to the key of a client."""
    return generate_accept_token(key.encode()).decode()


class WebSocket:
    """A connection whose handshake is done.

    Args:
        reader, writer: of the connection.
        largest: bytes of a text, roughly: its characters are counted.
        patience: seconds of silence after which the other side is pinged, after which it has gone if it says nothing
            then either, and within which it has to take what is sent.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, largest: int, patience: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._largest = largest
        self._patience = patience
        self._connection = Connection(ConnectionType.SERVER)
        self._parts: list[str] = []

    async def receive(self) -> str | None:
        """Return the next text; None: it is over, and the other side was told why.

        Raises:
            OSError, EOFError: the connection is lost, or the other side has not answered a ping.
        """
        while not isinstance(event := await self._next(), CloseConnection):
            if isinstance(event, Ping):
                await self._write(event.response())
            elif isinstance(event, TextMessage | BytesMessage):
                if (refused := self._refused(event)) is not None:
                    await self._write(CloseConnection(code=refused))
                    return None
                if event.message_finished:
                    text, self._parts = "".join(self._parts), []
                    return text
        await self._write(event.response())
        return None

    async def _next(self) -> Event:
        while (event := next(self._connection.events(), None)) is None:
            data = await self._heard()
            if not data:
                raise EOFError("the other side has gone without a word")
            self._connection.receive_data(data)
        return event

    async def _heard(self) -> bytes:
        """Return what comes next, of any kind; one that is silent is asked whether it is still there."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                return await self._reader.read(READ)
        await self._write(Ping())
        async with asyncio.timeout(self._patience):
            return await self._reader.read(READ)

    def _refused(self, part: TextMessage | BytesMessage) -> CloseReason | None:
        """Take a part of a text; or return why it is not taken."""
        if isinstance(part, BytesMessage):
            return CloseReason.UNSUPPORTED_DATA
        self._parts.append(part.data)
        return CloseReason.MESSAGE_TOO_BIG if sum(map(len, self._parts)) > self._largest else None

    async def send(self, text: str) -> None:
        """Send a text.

        Raises:
            OSError: the connection is lost, or the other side does not take it.
        """
        await self._write(TextMessage(data=text))

    async def _write(self, event: Event) -> None:
        self._writer.write(self._connection.send(event))
        async with asyncio.timeout(self._patience):
            await self._writer.drain()
