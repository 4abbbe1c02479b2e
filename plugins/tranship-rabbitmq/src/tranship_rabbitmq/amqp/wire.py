"""One connection: frames in and out, heartbeats, and its end."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from typing import Final, cast

from tranship_rabbitmq.amqp.channel import Channel
from tranship_rabbitmq.amqp.ends import WireEnded
from tranship_rabbitmq.amqp.methods import Method, pack, unpack
from tranship_rabbitmq.amqp.table import TableError

__all__ = ["FRAME_OVERHEAD", "Wire"]

log = logging.getLogger("tranship.rabbitmq")

PREAMBLE: Final = b"AMQP\0\0\x09\x01"
FRAME_OVERHEAD: Final = 8
"""Bytes of a frame around its payload."""
FRAME_END: Final = b"\xce"
_END: Final = 0xCE
_HEAD: Final = struct.Struct(">BHI")
_METHOD: Final = 1
_HEADER: Final = 2
_BODY: Final = 3
_HEARTBEAT: Final = b"\x08\0\0\0\0\0\0\xce"
_MISSED: Final = 1.5
"""Heartbeats without a word after which the server counts as gone."""
_GOODBYE: Final = 2.0
"""Seconds the server gets to take its leave."""


class Wire(asyncio.Protocol):
    """Frames over one connection. It ends once: :attr:`ended` then says how, and everybody who waits is told.

    Attributes:
        frame_max: the largest frame, in bytes.
        channel_max: the largest number of a channel.
        heard_at: when the server last said anything, on the loop's clock.
        blocked: why the server takes no messages at the moment; None: it does.
        done: a future that is done when the wire has ended.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.frame_max = 4096
        self.channel_max = 2047
        self.heard_at = self._loop.time()
        self.blocked: str | None = None
        self.ended: WireEnded | None = None
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._channels: dict[int, Channel] = {}
        self._rest = b""
        self._out: list[bytes] = []
        self._said: deque[Method] = deque()
        self._listener: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._beaten_at = 0.0
        self._pending = 0
        self._free: asyncio.Event = asyncio.Event()
        self._free.set()

    # The life of it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the conversation."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(PREAMBLE)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if not self._gone.done():
            self._gone.set_result(None)
        why = WireEnded(f"the connection was lost: {exc}" if exc else "the server ended the connection")
        why.__cause__ = exc
        self.end(why)

    def end(self, why: WireEnded) -> None:
        """Give the connection up, and tell everybody."""
        if self.ended is not None:
            return
        self.ended = why
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        if self._listener is not None and not self._listener.done():
            self._listener.set_result(None)
        self._free.set()
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.end(why)
        self.done.set_result(None)

    async def aclose(self) -> None:
        """Take leave: everything that was written before is heard by the server first, if it still answers."""
        if self.ended is None and self._transport is not None:
            self.method(0, pack("connection.close", 200, "bye", 0, 0))
            self._flush()
            await asyncio.wait({self.done}, timeout=_GOODBYE)
        self.end(WireEnded("the connection was closed"))
        await self.gone()

    async def gone(self) -> None:
        """Return once the socket has been closed, of a connection that has ended."""
        if self._transport is not None:
            await asyncio.wait({self._gone}, timeout=_GOODBYE)

    def beat(self, seconds: int) -> None:
        """Send a heartbeat every half of ``seconds``, and give the connection up when the server sends none."""
        if seconds:
            self._beaten_at = self._loop.time()
            self._timer = self._loop.call_later(seconds / 2, self._beat, seconds)

    def _beat(self, seconds: int) -> None:
        now = self._loop.time()
        # Where this very process was stopped, what the server said meanwhile has not been read yet.
        punctual = now - self._beaten_at < seconds
        if punctual and now - self.heard_at > seconds * _MISSED:
            self.end(WireEnded(f"the server has said nothing for {now - self.heard_at:.0f} s"))
            return
        self.write(_HEARTBEAT)
        self._beaten_at = now
        self._timer = self._loop.call_later(seconds / 2, self._beat, seconds)

    # Out.

    def write(self, data: bytes) -> None:
        """Write ``data`` with whatever else is written in this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._pending += len(data)

    def method(self, number: int, payload: bytes) -> None:
        """Write a method frame on the channel of that number."""
        self.write(_HEAD.pack(_METHOD, number, len(payload)) + payload + FRAME_END)

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._pending = 0
        if out and self.ended is None and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def pause_writing(self) -> None:
        """The network takes no more for now."""
        self._free.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._free.set()

    async def drained(self, limit: int) -> None:
        """Return once not more than about ``limit`` bytes wait to be sent, or the connection has ended."""
        if self._pending > limit:
            self._flush()
        await self._free.wait()

    async def channel(self) -> Channel:
        """Open a channel.

        Raises:
            WireEnded, ChannelEnded: it could not be.
        """
        if self.ended is not None:
            raise WireEnded(self.ended.text, self.ended.code)
        number = next((free for free in range(1, self.channel_max + 1) if free not in self._channels), 0)
        if not number:
            raise WireEnded(f"all {self.channel_max} channels of the connection are in use")
        channel = self._channels[number] = Channel(self, number)
        await channel.call("channel.open", "")
        return channel

    def forget(self, channel: Channel) -> None:
        """The channel has ended; its number is free."""
        if self._channels.get(channel.number) is channel:
            del self._channels[channel.number]

    async def said(self, *names: str) -> Method:
        """Return the next method on channel 0, while connecting.

        Raises:
            WireEnded: there will be none, or it is none of ``names``.
        """
        while not self._said:
            if self.ended is not None:
                raise WireEnded(self.ended.text, self.ended.code) from self.ended.__cause__
            self._listener = self._loop.create_future()
            await self._listener
        method = self._said.popleft()
        if method.name not in names:
            raise WireEnded(f"the server said {method.name}; expected {' or '.join(names)}")
        return method

    # In.

    def data_received(self, data: bytes) -> None:
        """Take in what came, frame by frame."""
        self.heard_at = self._loop.time()
        data = self._rest + data if self._rest else data
        try:
            at = self._frames(data)
        except (TableError, struct.error, IndexError) as error:
            self.end(WireEnded(f"what the server said cannot be read: {error}"))
        except Exception as error:
            # A bug in somebody's callback: without an end, those who wait would wait for ever.
            log.exception("reading from the server failed in an unexpected way")
            self.end(WireEnded(f"reading from the server failed: {error!r}"))
        else:
            self._rest = data[at:] if at else data

    def _frames(self, data: bytes) -> int:
        """Take in all whole frames; return where the rest begins."""
        at = 0
        while len(data) - at > 7:
            kind, number, size = _HEAD.unpack_from(data, at)
            end = at + 7 + size
            if size > self.frame_max or data[at : at + 4] == b"AMQP":
                raise TableError("the server does not speak AMQP 0-9-1")
            if end >= len(data):
                break
            if data[end] != _END:
                raise TableError("a frame has no end")
            self._frame(kind, number, data[at + 7 : end])
            at = end + 1
        return at

    def _frame(self, kind: int, number: int, payload: bytes) -> None:
        channel = self._channels.get(number)
        if channel is not None:
            if kind == _METHOD:
                channel.heard(payload)
            elif kind == _HEADER:
                channel.heard_header(payload)
            elif kind == _BODY:
                channel.heard_body(payload)
        elif number == 0 and kind == _METHOD:
            self._control(unpack(payload))

    def _control(self, method: Method) -> None:
        if method.name == "connection.blocked":
            self.blocked = method.arguments[0] or "no reason given"
        elif method.name == "connection.unblocked":
            self.blocked = None
        elif method.name == "connection.close":
            code, text, *_ = method.arguments
            self.method(0, pack("connection.close-ok"))
            self._flush()
            self.end(WireEnded(text, code))
        elif method.name == "connection.close-ok":
            self.end(WireEnded("the connection was closed"))
        else:
            self._said.append(method)
            if self._listener is not None and not self._listener.done():
                self._listener.set_result(None)
