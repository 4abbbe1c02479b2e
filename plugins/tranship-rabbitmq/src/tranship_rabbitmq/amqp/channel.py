"""One channel: calls and their replies in order, confirms, deliveries."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tranship_rabbitmq.amqp.content import properties_of
from tranship_rabbitmq.amqp.ends import ChannelEnded, Ended, Nacked, Returned
from tranship_rabbitmq.amqp.methods import Method, pack, unpack
from tranship_rabbitmq.amqp.table import TableError

if TYPE_CHECKING:
    from tranship_rabbitmq.amqp.wire import Wire

__all__ = ["Arrived", "Channel", "Reply"]

_NUMBER: Final = struct.Struct(">I")
_TAG: Final = struct.Struct(">QB")
_LEFT: Final = struct.Struct(">I")
_SIZE: Final = struct.Struct(">Q")
_DELIVER: Final = 60 << 16 | 60
_GET_OK: Final = 60 << 16 | 71
_ACK: Final = 60 << 16 | 80
_NACK: Final = 60 << 16 | 120
_RETURN: Final = 60 << 16 | 50
_HEAD: Final = struct.Struct(">BHI")


@dataclass(slots=True, eq=False)
class Arrived:
    """A message that came: pushed, fetched, or returned to us."""

    tag: int = 0
    redelivered: bool = False
    routing_key: str = ""
    consumer: str = ""
    """Where it was pushed to; empty: fetched."""
    left: int = 0
    """Where it was fetched: how many were ready behind it."""
    why: str = ""
    """Where it was returned: the server's words."""
    header: bytes = b""
    body: bytes = b""


Reply = Method | Arrived
Then = Callable[[Reply | Ended], None]
Confirmed = Callable[[Ended | None], None]


class Channel:
    """A channel of a wire; made by :meth:`Wire.channel`. Ends once: :attr:`ended` then says how.

    Attributes:
        number: its number on the wire.
        consumers: who takes what is pushed, by consumer tag.
        on_cancelled: called with the tag of a consumer that the server has cancelled: its queue has gone.
        on_ended: called when the channel has ended by itself.
    """

    def __init__(self, wire: Wire, number: int) -> None:
        self.wire = wire
        self.number = number
        self.ended: Ended | None = None
        self.consumers: dict[str, Callable[[Arrived], None]] = {}
        self.on_cancelled: Callable[[str], None] = lambda _tag: None
        self.on_ended: Callable[[Ended], None] = lambda _why: None
        self._closing: Ended | None = None
        """Set when we have asked for its end: the server ends the connection over whatever is said on it later."""
        self._replies: deque[tuple[str, Then]] = deque()
        """Who waits for a reply to which method, in order."""
        self._published = 0
        self._unconfirmed: dict[int, tuple[str, Confirmed]] = {}
        self._returned: dict[int, str] = {}
        self._partial: Arrived | None = None
        self._kind = 0
        self._missing = 0
        self._chunks: list[bytes] = []

    @property
    def unconfirmed(self) -> int:
        """How many published messages have no answer yet."""
        return len(self._unconfirmed)

    # Saying.

    def send(self, name: str, *arguments: Any) -> None:
        """Send a method that has no reply. A channel that has ended, or is being closed, ignores it."""
        if self.ended is None and self._closing is None:
            self.wire.method(self.number, pack(name, *arguments))

    def post(self, then: Then, name: str, *arguments: Any) -> None:
        """Send a method; ``then`` gets its reply, or how the channel ended."""
        payload = pack(name, *arguments)
        if (ended := self.ended or self._closing) is not None:
            then(ended)
            return
        if name == "channel.close":
            self._closing = ChannelEnded("the channel was closed")
        self._replies.append((name, then))
        self.wire.method(self.number, payload)

    async def call(self, name: str, *arguments: Any) -> Reply:
        """Send a method and return its reply. Cancelling only stops waiting for it.

        Raises:
            ChannelEnded, WireEnded: there is none.
        """
        answer: asyncio.Future[Reply | Ended] = asyncio.get_running_loop().create_future()

        def then(reply: Reply | Ended) -> None:
            if not answer.done():
                answer.set_result(reply)

        self.post(then, name, *arguments)
        reply = await answer
        if isinstance(reply, Ended):
            # A fresh one: several may be told of the same end.
            raise type(reply)(reply.text, reply.code)
        return reply

    def publish(self, frames: bytes, key: str, then: Confirmed) -> None:
        """Write the frames of a message; ``then`` gets None once the server has it, or why it has it not.

        Args:
            frames: as :mod:`tranship_rabbitmq._frames` makes them, for this channel's number.
            key: the message's correlation id, by which a returned one is known.
            then: called once, later.
        """
        if (ended := self.ended or self._closing) is not None:
            then(ended)
            return
        self._published += 1
        self._unconfirmed[self._published] = (key, then)
        self.wire.write(frames)

    async def close(self) -> None:
        """Close it; what is unsettled on it goes back to its queue."""
        if self.ended is None:
            try:
                await self.call("channel.close", 200, "", 0, 0)
            except Ended:
                return

    def end(self, why: Ended) -> None:
        """It has ended: tell everybody who waits."""
        if self.ended is not None:
            return
        self.ended = why
        replies, self._replies = self._replies, deque()
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for _, then in replies:
            then(why)
        for _, confirmed in unconfirmed.values():
            confirmed(why)
        self.on_ended(why)

    # Hearing.

    def heard(self, payload: bytes) -> None:
        """Take in a method frame.

        Raises:
            TableError, struct.error, IndexError: it is none.
        """
        (number,) = _NUMBER.unpack_from(payload)
        if number in (_DELIVER, _GET_OK, _RETURN):
            self._kind = number
            self._partial = _READERS[number](payload)
        elif number == _ACK:
            tag, bits = _TAG.unpack_from(payload, 4)
            self._confirm(tag, multiple=bool(bits & 1), why=None)
        elif number == _NACK:
            tag, bits = _TAG.unpack_from(payload, 4)
            self._confirm(tag, multiple=bool(bits & 1), why=Nacked("the server did not take the message"))
        else:
            self._other(unpack(payload))

    def heard_header(self, payload: bytes) -> None:
        """Take in a content header."""
        if self._partial is None:
            raise TableError("a content header belongs to no message")
        self._partial.header = payload
        (self._missing,) = _SIZE.unpack_from(payload, 4)
        if not self._missing:
            self._complete()

    def heard_body(self, payload: bytes) -> None:
        """Take in a piece of a body."""
        self._missing -= len(payload)
        self._chunks.append(payload)
        if self._missing <= 0:
            self._complete()

    def _complete(self) -> None:
        arrived, chunks = self._partial, self._chunks
        self._partial, self._chunks = None, []
        assert arrived is not None
        arrived.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self._kind == _GET_OK:
            self._waiting("basic.get")(arrived)
        elif self._kind == _RETURN:
            self._was_returned(arrived)
        else:
            consumer = self.consumers.get(arrived.consumer)
            if consumer is not None:
                consumer(arrived)

    def _other(self, method: Method) -> None:
        if method.name == "channel.close":
            code, text, *_ = method.arguments
            self.wire.method(self.number, pack("channel.close-ok"))
            self.wire.forget(self)
            self.end(ChannelEnded(text, code))
        elif method.name == "basic.cancel":
            self.consumers.pop(method.arguments[0], None)
            self.on_cancelled(method.arguments[0])
        elif method.name == "channel.flow":
            self.send("channel.flow-ok", method.arguments[0])
        else:
            self._replied(method)

    def _replied(self, method: Method) -> None:
        name, dash, _ = method.name.rpartition("-")
        if not dash:
            raise TableError(f"{method.name} was not expected")
        self._waiting(name)(method)
        if method.name == "channel.close-ok":
            self.wire.forget(self)
            self.end(ChannelEnded("the channel was closed"))

    def _waiting(self, name: str) -> Then:
        """Return who waits for a reply to ``name``: the first who does. Consuming and cancelling are answered by the
        queues themselves, after methods that were sent later.
        """
        replies = self._replies
        for place, (asked, then) in enumerate(replies):
            if asked == name:
                del replies[place]
                return then
        raise TableError(f"nobody waits for a reply to {name}")

    # Confirms.

    def _confirm(self, tag: int, *, multiple: bool, why: Ended | None) -> None:
        for one in [one for one in self._unconfirmed if one <= tag] if multiple else [tag]:
            entry = self._unconfirmed.pop(one, None)
            if entry is None:
                continue
            returned = self._returned.pop(one, None) if self._returned else None
            entry[1](why if returned is None else Returned(returned, 312))

    def _was_returned(self, arrived: Arrived) -> None:
        """The confirm comes later; which message it was is known by its correlation id."""
        try:
            key = properties_of(arrived.header).correlation_id or ""
        except TableError:
            key = ""
        for tag, (own, _) in self._unconfirmed.items():
            if own == key and tag not in self._returned:
                self._returned[tag] = arrived.why
                return


def _read_deliver(payload: bytes) -> Arrived:
    at = 5 + payload[4]
    consumer = payload[5:at].decode()
    tag, bits = _TAG.unpack_from(payload, at)
    _, at = _short(payload, at + 9)
    routing_key, _ = _short(payload, at)
    return Arrived(tag, bool(bits & 1), routing_key, consumer)


def _read_get_ok(payload: bytes) -> Arrived:
    tag, bits = _TAG.unpack_from(payload, 4)
    _, at = _short(payload, 13)
    routing_key, at = _short(payload, at)
    return Arrived(tag, bool(bits & 1), routing_key, left=_LEFT.unpack_from(payload, at)[0])


def _read_return(payload: bytes) -> Arrived:
    code, text, exchange, routing_key = unpack(payload).arguments
    return Arrived(routing_key=routing_key, why=f"{text}: exchange {exchange!r}, key {routing_key!r}, code {code}")


def _short(payload: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + payload[at]
    return payload[at + 1 : end].decode(errors="replace"), end


_READERS: Final = {_DELIVER: _read_deliver, _GET_OK: _read_get_ok, _RETURN: _read_return}
