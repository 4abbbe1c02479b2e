"""One WebSocket, as a server speaks it: texts of a bounded size, one at a time (RFC 6455)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from typing import Final

__all__ = ["WebSocket", "accepted"]

_MAGIC: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MORE, _TEXT, _CLOSE, _PING, _PONG = 0, 1, 8, 9, 10
_GOING, _PROTOCOL, _UNREADABLE, _TOO_LARGE = 1001, 1002, 1007, 1009


def accepted(key: str) -> str:
    """Return what a server answers to the key of a client."""
    return base64.b64encode(hashlib.sha1(f"{key}{_MAGIC}".encode(), usedforsecurity=False).digest()).decode()


class _Broken(Exception):
    """The other side does not keep to the protocol; the argument is the code that says how."""


class WebSocket:
    """A connection whose handshake is done.

    Args:
        reader, writer: of the connection.
        largest: bytes of a text.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, largest: int) -> None:
        self._reader = reader
        self._writer = writer
        self._largest = largest

    async def receive(self) -> str | None:
        """Return the next text; None: it is over, and the other side was told why.

        Raises:
            OSError, EOFError: the connection is lost.
        """
        try:
            return await self._message()
        except _Broken as broken:
            await self.close(broken.args[0])
            return None

    async def send(self, text: str) -> None:
        """Send a text.

        Raises:
            OSError: the connection is lost.
        """
        await self._write(_TEXT, text.encode())

    async def close(self, code: int = _GOING) -> None:
        """Say that it is over."""
        await self._write(_CLOSE, struct.pack("!H", code))

    async def _message(self) -> str | None:
        parts: list[bytes] = []
        while (found := await self._part(begun=bool(parts))) is not None:
            data, is_last = found
            parts.append(data)
            if sum(map(len, parts)) > self._largest:
                raise _Broken(_TOO_LARGE)
            if is_last:
                return _text(b"".join(parts))
        return None

    async def _part(self, *, begun: bool) -> tuple[bytes, bool] | None:
        """Return the next part of a text, and whether it is the last; None: the other side says that it is over."""
        while True:
            kind, is_last, data = await self._frame()
            if kind == _CLOSE:
                await self._write(_CLOSE, data[:2])
                return None
            if kind == _PING:
                await self._write(_PONG, data)
            elif kind == (_MORE if begun else _TEXT):
                return data, is_last
            elif kind != _PONG:
                raise _Broken(_PROTOCOL)

    async def _frame(self) -> tuple[int, bool, bytes]:
        first, second = await self._reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
        if size > self._largest:
            raise _Broken(_TOO_LARGE)
        is_control = first & 0x08
        if first & 0x70 or not second & 0x80 or (is_control and (size > 125 or not first & 0x80)):
            # Bits of an extension that nobody agreed on, a client that does not mask, or a control frame in parts.
            raise _Broken(_PROTOCOL)
        mask = await self._reader.readexactly(4)
        data = await self._reader.readexactly(size)
        return first & 0x0F, bool(first & 0x80), bytes(one ^ mask[at % 4] for at, one in enumerate(data))

    async def _write(self, kind: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            head = bytes([0x80 | kind, size])
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | kind, 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | kind, 127, size)
        self._writer.write(head + data)
        await self._writer.drain()


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _Broken(_UNREADABLE) from None
