"""One connection through the proxy, and what may be wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Faults", "Link"]

_CHUNK = 65536
_IN_FLIGHT = 64
_SLICES_PER_SECOND = 20
# Linger on, for no time at all: close() sends RST. The structure's fields are short on Windows.
_RST_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@dataclass(slots=True)
class Faults:
    """What is wrong now. Read and written on the proxy's loop only."""

    latency: float = 0.0
    rate: float | None = None
    blackhole: bool = False
    mute: bool = False


class Link:
    """One connection through the proxy: two directions, each with a line of bytes under way."""

    def __init__(self, faults: Faults, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost = False
        self._faults = faults
        self._reader = reader
        self._writer = writer
        self._upstream: asyncio.StreamWriter | None = None
        self._half_closed = False
        self._aborted = asyncio.Event()

    async def run(self, target: tuple[str, int]) -> None:
        """Forward until both directions have ended, or one has failed."""
        if self._faults.blackhole:
            await self._swallow_all()
            return
        with contextlib.suppress(OSError):
            reader, self._upstream = await asyncio.open_connection(*target)
            if not self._aborted.is_set():
                await self._forward(reader, self._upstream)

    def half_close(self) -> bool:
        """End the stream towards the client; False where it had ended before."""
        if self._half_closed or self._writer.is_closing():
            return False
        self._half_closed = True
        self._writer.write_eof()
        return True

    def abort(self) -> None:
        """End both sides with RST; nothing where they are closed."""
        self._aborted.set()
        for writer in filter(None, (self._writer, self._upstream)):
            if not writer.is_closing():
                _abort(writer)

    async def _forward(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(self._reader, upstream))
                group.create_task(self._pump(reader, self._writer))
        except* OSError:
            if self._faults.blackhole or self._faults.mute:
                # The other side must not hear of it either.
                self.lost = True
                await self._aborted.wait()
        else:
            self._writer.close()
            upstream.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fetch(reader, line))
            group.create_task(self._deliver(line, writer))

    async def _fetch(self, reader: asyncio.StreamReader, line: asyncio.Queue[tuple[float, bytes]]) -> None:
        clock = asyncio.get_running_loop().time
        data = b"-"
        while data:
            data = await reader.read(_CHUNK)
            await line.put((clock() + self._faults.latency, data))

    async def _deliver(self, line: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await line.get()
            if (early := due - clock()) > 0:
                await asyncio.sleep(early)
            if not data:
                break
            await self._write(data, writer)
        if not self._swallows(writer):
            writer.write_eof()

    async def _write(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in _pieces(data, self._faults.rate):
            if self._swallows(writer):
                continue
            writer.write(piece)
            await writer.drain()
            if self._faults.rate:
                await asyncio.sleep(len(piece) / self._faults.rate)

    def _swallows(self, writer: asyncio.StreamWriter) -> bool:
        swallowed = self._faults.blackhole or (self._faults.mute and writer is self._writer)
        if swallowed:
            self.lost = True
        return swallowed or (self._half_closed and writer is self._writer)

    async def _swallow_all(self) -> None:
        self.lost = True
        with contextlib.suppress(OSError):
            while await self._reader.read(_CHUNK):
                pass


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    writer.transport.abort()


def _pieces(data: bytes, rate: float | None) -> Iterator[bytes]:
    """Cut data so that a rate comes out as a trickle, not as bursts."""
    size = max(1, int(rate / _SLICES_PER_SECOND)) if rate else len(data)
    for start in range(0, len(data), size):
        yield data[start : start + size]
