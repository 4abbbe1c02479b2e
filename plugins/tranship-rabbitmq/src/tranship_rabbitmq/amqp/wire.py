"""The frames of one connection: those of our channels, and what is overheard of the connection's own."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import Final

from tranship_rabbitmq.amqp.channel import Channel
from tranship_rabbitmq.amqp.ends import WireEnded
from tranship_rabbitmq.amqp.methods import pack, unpack
from tranship_rabbitmq.amqp.table import TableError

__all__ = ["FRAME_END", "FRAME_OVERHEAD", "GREETING", "Wire"]

log: logging.Logger = logging.getLogger("tranship.rabbitmq")

GREETING: Final = b"AMQP\0\0\x09\x01"
"""The first bytes that a client says."""
FRAME_OVERHEAD: Final = 8
"""Bytes of a frame around its payload."""
FRAME_END: Final = b"\xce"
_END: Final = 0xCE
_HEAD: Final = struct.Struct(">BHI")
_METHOD: Final = 1
_HEADER: Final = 2
_BODY: Final = 3
_HEARTBEAT: Final = b"\x08\0\0\0\0\0\0\xce"
_CONNECTION: Final = b"\0\x0a"
"""The class of methods about the connection itself."""
_OVERHEARD: Final = frozenset({30, 50, 51, 60, 61})
"""Which of its methods are of interest here: tune, close, close-ok, blocked, unblocked."""
_MISSED: Final = 1.5
"""Heartbeats without a word after which the server counts as gone."""
_TOLD: Final = 1.0
"""Seconds: how often the client library is told that the server lives."""
_NATIVE_SHARE: Final = 8
"""One channel in so many has a number that is left for the users of the client library."""


class Wire:
    """Frames over one connection. It ends once: :attr:`ended` then says how, and everybody who waits is told.

    What the server says on the channels of :class:`Channel` is taken here, and believed as little as possible;
    everything else is left for the client library, which makes the connection and keeps it alive
    (:mod:`tranship_rabbitmq.amqp.connection`).

    Args:
        heartbeat: in how many seconds the server should say something, if it does not want it oftener; 0: never.

    Attributes:
        frame_max: the largest frame, in bytes.
        native_max: the largest number of a channel that is the client library's own; ours are above.
        channel_max: the largest number of a channel.
        heartbeat: in how many seconds the server says something at least, as both agreed; 0: never.
        heard_at: when the server last said anything, on the loop's clock.
        greeted: whether it has said anything yet that is AMQP.
        blocked: why the server takes no messages at the moment; None: it does.
        done: a future that is done when the wire has ended.
        gone: a future that is done when the socket has been closed.
        on_tuned: called once, when the attributes above are known.
    """

    def __init__(self, heartbeat: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.heartbeat: int = heartbeat
        self.frame_max: int = 4096
        self.native_max: int = 0
        self.channel_max: int = 0
        self.heard_at: float = self._loop.time()
        self._told_at = self._looked_at = self.heard_at
        self.greeted: bool = False
        self.blocked: str | None = None
        self.ended: WireEnded | None = None
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.on_tuned: Callable[[], object] = lambda: None
        self._transport: asyncio.Transport | None = None
        self._channels: dict[int, Channel] = {}
        self._rest = b""
        self._out: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._pending = 0
        self._free: asyncio.Event = asyncio.Event()
        self._free.set()

    # The life of it.

    def begin(self, transport: asyncio.Transport) -> None:
        """Greet the server. Called when there is a socket."""
        self._transport = transport
        if self.ended is not None:
            transport.abort()
            return
        # At once: a server that refuses our certificate resets the connection over what comes later, and the alert that
        # says why is lost with it.
        transport.write(GREETING)

    def watch(self) -> None:
        """Give the connection up when the server is silent for too long, from now on."""
        if self.heartbeat and self.ended is None:
            self._looked_at = self._loop.time()
            self._timer = self._loop.call_later(self.heartbeat / 2, self._look)

    def _look(self) -> None:
        now, seconds = self._loop.time(), self.heartbeat
        # Where this very process was stopped, what the server said meanwhile has not been read yet.
        punctual = now - self._looked_at < seconds
        if punctual and now - self.heard_at > seconds * _MISSED:
            self.end(WireEnded(f"the server has said nothing for {now - self.heard_at:.0f} s"))
            return
        self._looked_at = now
        self._timer = self._loop.call_later(seconds / 2, self._look)

    def leave(self) -> None:
        """Ask the server to end the connection, when it has heard everything that was written before."""
        if self.ended is None:
            self.method(0, pack("connection.close", 200, "bye", 0, 0))
            self.flush()

    def left(self, exc: Exception | None = None) -> None:
        """End it: the server says no more, or the socket is gone."""
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
        self._free.set()
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.end(why)
        self.done.set_result(None)

    # Out.

    def write(self, data: bytes) -> None:
        """Write ``data`` with whatever else is written in this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(data)
        self._pending += len(data)

    def method(self, number: int, payload: bytes) -> None:
        """Write a method frame on the channel of that number."""
        self.write(_HEAD.pack(_METHOD, number, len(payload)) + payload + FRAME_END)

    def flush(self) -> None:
        """Hand over to the socket what has been written."""
        out, self._out = self._out, []
        self._pending = 0
        if out and self.ended is None and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def paused(self) -> None:
        """The network takes no more for now."""
        self._free.clear()

    def resumed(self) -> None:
        """It does again."""
        self._free.set()

    async def drained(self, limit: int) -> None:
        """Return once not more than about ``limit`` bytes wait to be sent, or the connection has ended."""
        if self._pending > limit:
            self.flush()
        await self._free.wait()

    async def channel(self) -> Channel:
        """Open a channel.

        Raises:
            WireEnded, ChannelEnded: it could not be.
        """
        if self.ended is not None:
            raise WireEnded(self.ended.text, self.ended.code)
        numbers = range(self.native_max + 1, self.channel_max + 1)
        number = next((free for free in numbers if free not in self._channels), 0)
        if not number:
            raise WireEnded(f"all {len(numbers)} channels of the connection are in use")
        channel = self._channels[number] = Channel(self, number)
        await channel.call("channel.open", "")
        return channel

    def forget(self, channel: Channel) -> None:
        """The channel has ended; its number is free."""
        if self._channels.get(channel.number) is channel:
            del self._channels[channel.number]

    # In.

    def received(self, data: bytes) -> bytes:
        """Take in what came, frame by frame; return what is left for the client library, whole frames."""
        self.heard_at = self._loop.time()
        data = self._rest + data if self._rest else data
        others: list[bytes] = []
        try:
            at = self._frames(data, others)
        except (TableError, struct.error, IndexError) as error:
            self.end(WireEnded(f"what the server said cannot be read: {error}"))
            return b""
        except Exception as error:
            # A bug in somebody's callback: without an end, those who wait would wait for ever.
            log.exception("reading from the server failed in an unexpected way")
            self.end(WireEnded(f"reading from the server failed: {error!r}"))
            return b""
        self._rest = data[at:] if at else data
        if not others and self.heard_at - self._told_at > _TOLD:
            # The client library ends a connection on which it reads nothing, whatever our channels hear.
            others.append(_HEARTBEAT)
        if not others:
            return b""
        self._told_at = self.heard_at
        return b"".join(others)

    def _frames(self, data: bytes, others: list[bytes]) -> int:
        """Take in all whole frames, those of others to ``others``; return where the rest begins."""
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
            if number > self.native_max:
                self._frame(kind, number, data[at + 7 : end])
            elif number or kind != _METHOD:
                others.append(data[at : end + 1])
            else:
                self.greeted = True
                others.append(self._overheard(data[at : end + 1]))
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

    def _overheard(self, frame: bytes) -> bytes:
        """Note what concerns us of what is said to the client library; return what it is to hear."""
        payload = frame[7:-1]
        if payload[:2] != _CONNECTION or payload[3] not in _OVERHEARD:
            return frame
        method = unpack(payload)
        if method.name == "connection.tune":
            return self._tuned(*method.arguments)
        if method.name == "connection.close":
            code, text, *_ = method.arguments
            self.method(0, pack("connection.close-ok"))
            self.flush()
            self.end(WireEnded(text, code))
        elif method.name == "connection.close-ok":
            self.end(WireEnded("the connection was closed"))
        else:
            blocked = method.name == "connection.blocked"
            self.blocked = (method.arguments[0] or "no reason given") if blocked else None
        return frame

    def _tuned(self, channel_max: int, frame_max: int, heartbeat: int) -> bytes:
        # 0 means that the server sets no bound; the client library would take it at its word.
        self.channel_max, self.frame_max = channel_max or 65535, frame_max or 131_072
        self.native_max = self.channel_max // _NATIVE_SHARE
        self.heartbeat = min(self.heartbeat, heartbeat or self.heartbeat)
        self.on_tuned()
        payload = pack("connection.tune", self.channel_max, self.frame_max, self.heartbeat)
        return _HEAD.pack(_METHOD, 0, len(payload)) + payload + FRAME_END
