"""A TCP relay for one connection's fate: requests that are held back, answers that get lost, late bytes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from tranship.settings import BrokerURL


class Tap:
    """Relays connections to a server. What is switched holds for the connections of that moment only.

    ``hold`` keeps requests, ``mute`` loses answers, ``cut`` ends the client's side while the server's side stays,
    and ``release`` sends the server, late, what was held.
    """

    def __init__(self, url: str) -> None:
        self.target = url
        self._parsed = BrokerURL.parse(url)
        self._pipes: list[_Pipe] = []
        self._server: asyncio.Server
        self.needle = b""
        """A request with this in it still reaches the server, but its client is cut off before the answer."""

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"redis://127.0.0.1:{port}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for pipe in self._pipes:
            pipe.close()
        await asyncio.gather(*(pipe.done.wait() for pipe in self._pipes))

    @property
    def connected(self) -> int:
        return len(self._pipes)

    def hold(self) -> list[_Pipe]:
        pipes = self._live()
        for pipe in pipes:
            pipe.held = bytearray()
        return pipes

    def mute(self) -> None:
        for pipe in self._live():
            pipe.muted = True

    def cut(self) -> None:
        for pipe in self._live():
            pipe.cut()

    def _live(self) -> list[_Pipe]:
        return [pipe for pipe in self._pipes if not pipe.is_cut]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = _Pipe(self, reader, writer)
        self._pipes.append(pipe)
        with contextlib.suppress(OSError):
            await pipe.run(self._parsed.host or "127.0.0.1", self._parsed.port or 6379)
        pipe.done.set()


class _Pipe:
    def __init__(self, tap: Tap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tap = tap
        self._client = (reader, writer)
        self._up: asyncio.StreamWriter
        self.held: bytearray | None = None
        self.muted = False
        self.is_cut = False
        self.done = asyncio.Event()

    async def run(self, host: str, port: int) -> None:
        down, self._up = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(self._requests(), self._answers(down))
        finally:
            self.close()

    def cut(self) -> None:
        self.is_cut = self.muted = True
        self._client[1].transport.abort()

    def release(self) -> None:
        assert self.held is not None
        self._up.write(bytes(self.held))
        self.held = None

    def close(self) -> None:
        self._client[1].close()
        if hasattr(self, "_up"):
            self._up.close()

    async def _requests(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._client[0].read(65536):
                if self.held is not None:
                    self.held += data
                    continue
                self._up.write(data)
                if self._tap.needle and self._tap.needle in data:
                    self._tap.needle = b""
                    self.cut()
        if not self.is_cut:
            self._up.close()

    async def _answers(self, down: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await down.read(65536):
                if not self.muted:
                    self._client[1].write(data)
        if not self.is_cut:
            self._client[1].close()
