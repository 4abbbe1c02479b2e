"""One connection after its handshake: bytes out, frames in, and whose answer comes next.

Answers come in the order of the commands, so a queue of callbacks says whose each one is. It must stay exact:
a command that is answered by pushes instead (SUBSCRIBE and its like) holds its place until all of them came.

It is an asyncio protocol of its own, and not a pair of tasks around streams, because every task and every
``await`` between the socket and a callback is paid for with each message.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from hiredis import PushNotification, Reader
from redis.exceptions import InvalidResponse, ResponseError

from tranship.errors import BrokerUnreachable, TranshipError
from tranship_redis._errors import again, is_demotion, reply_error

__all__ = ["CONFIRMATIONS", "PushHandler", "Reply", "Then", "Wire"]

log = logging.getLogger("tranship.redis")

Reply = Any
"""bytes, int, None, list, dict, float, or a ResponseError: an error reply is a value."""

Then = Callable[[Any], object]
"""Called once, on the loop, with a :data:`Reply` or with a TranshipError."""

PushHandler = Callable[[list[Any]], object]

CONFIRMATIONS: Final = frozenset({b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe"})
_SUBSCRIBER_FRAMES: Final = CONFIRMATIONS | {b"message", b"pmessage"}
_MORE: Final = object()
_LARGE: Final = 1 << 16
"""Bytes; to copy more than that into one write costs more than to write in pieces."""
_GOODBYE: Final = 1.0
"""Seconds for the other side to take note that we close."""


class Wire(asyncio.Protocol):
    """A connection that works until it is lost, which is for ever.

    Args:
        writer: of a connection that nobody else uses and on which nothing is under way.
        handlers: returns who gets the pushes of a kind.
        lost: called once, when the connection has gone otherwise than by :meth:`close`: with the reason, and
            before anybody else hears of it. It has to call :meth:`fail`.
        subscriber: a RESP2 connection for subscriptions, on which pushes look like any other array.
    """

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        handlers: Callable[[bytes], tuple[PushHandler, ...]],
        lost: Callable[[Wire, str, BaseException | None], None],
        *,
        subscriber: bool = False,
    ) -> None:
        self.dispatching = False
        """A callback of ours is running."""
        self.gone = False
        """Nothing can be sent any more."""
        self.ahead: Callable[[], object] | None = None
        """Called once, before anything else is posted: it posts what has to travel ahead of that."""
        self._loop = asyncio.get_running_loop()
        self._context = Context()  # else everything would run in the context of whoever posts first in a tick
        self._handlers = handlers
        self._lost = lost
        self._subscriber = subscriber
        self._waiting: deque[Then] = deque()
        self._out: list[bytes] = []
        self._scheduled = self._paused = self._read_only = False
        self._answered = self._received = self._written = 0
        self._reader = Reader(protocolError=InvalidResponse, replyError=reply_error, notEnoughData=_MORE)
        self._closed = self._loop.create_future()
        self._why: TranshipError = BrokerUnreachable("the connection has gone")
        """Why nothing can be sent any more, once that is so."""
        self._take_over(writer)

    def _take_over(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer  # the streams are kept: collecting them would close the connection
        self._transport = writer.transport
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def post(self, data: bytes, then: Then, pushes: int = 0) -> None:
        """Send one command with everything else of this tick; see :meth:`Channel.post`."""
        if self.gone:
            raise again(self._why)
        if self.ahead is not None:
            ahead, self.ahead = self.ahead, None
            ahead()
        self._waiting.append(_Confirmations(then, pushes) if pushes else then)
        self._out.append(data)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush, context=self._context)

    def hold(self) -> None:
        """Send nothing until :meth:`flush`, which has to follow in the same tick."""
        self._scheduled = True

    @property
    def waiting(self) -> int:
        """How many commands have not been answered."""
        return len(self._waiting)

    def progress(self) -> tuple[object, ...]:
        """Something that changes whenever the connection proves to be alive.

        With a command unanswered that is: an answer, more of a long answer, more sent of what did not fit
        into the socket. Otherwise everything that comes in.
        """
        backlog = self._transport.get_write_buffer_size()
        heard = self._received if not self._waiting or self._reader.has_data() else 0
        return bool(self._waiting), self._answered, heard, self._written - backlog if backlog else 0

    def fail(self, sent: Exception, unsent: TranshipError) -> None:
        """Take no more, and answer everything that waits: ``sent`` what has left us, ``unsent`` what has not."""
        self.gone, self._why = True, unsent
        first_unsent = len(self._waiting) - len(self._out)
        waiting, self._waiting, self._out = self._waiting, deque(), []
        for index, then in enumerate(waiting):
            _call(then, again(sent) if index < first_unsent else again(unsent))

    def abort(self, why: str) -> None:
        """Give the connection up at once."""
        self._transport.abort()
        self._end(why, None)

    async def close(self) -> None:
        """Close it, after :meth:`fail`."""
        self._transport.close()
        try:
            await asyncio.wait({self._closed}, timeout=_GOODBYE)
        finally:
            self.drop()
        await asyncio.wait({self._closed}, timeout=_GOODBYE)

    def drop(self) -> None:
        """Let the socket go at once, after :meth:`fail`."""
        if not self._closed.done():
            self._transport.abort()

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        """Hand out every frame that is complete."""
        self._received += len(data)
        self.dispatching = True
        try:
            self._reader.feed(data)
            self._dispatch()
        except InvalidResponse as error:
            self._transport.abort()
            self._end(f"it does not answer as Redis does ({error})", error)
        finally:
            self.dispatching = False
        if self._read_only:
            self.abort("it became a read-only replica")
        elif self._out:
            self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody, the streams that had the connection before included."""
        self._before.connection_lost(exc)
        if not self._closed.done():
            self._closed.set_result(None)
        self._end("it closed the connection" if exc is None else f"the connection broke ({exc})", exc)

    def pause_writing(self) -> None:
        """Keep what is posted until the socket takes more."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self.flush()

    def flush(self) -> None:
        """Send what has been posted."""
        self._scheduled = False
        out = self._out
        if not out or self._paused or self.gone:
            return
        self._out = []
        size = sum(map(len, out))
        self._written += size
        if len(out) > 1 and size <= _LARGE:
            out = [b"".join(out)]
        for data in out:
            self._transport.write(data)

    def _dispatch(self) -> None:
        gets = self._reader.gets
        while not self.gone and (frame := gets()) is not _MORE:
            kind = type(frame)
            if kind is PushNotification or (self._subscriber and kind is list and _is_push(frame)):
                self._push(frame)
            elif self._waiting:
                self._answered += 1
                _call(self._waiting.popleft(), frame)
                if kind is ResponseError and is_demotion(frame):
                    # It stays connected when it is demoted; only connecting anew finds the new master.
                    self._read_only = True
            else:
                self.abort("it sent an answer to nothing")

    def _push(self, frame: list[Any]) -> None:
        kind = frame[0]
        if kind in CONFIRMATIONS:
            head = self._waiting[0] if self._waiting else None
            if type(head) is _Confirmations:
                head.left -= 1
                if not head.left:
                    self._waiting.popleft()
                    self._answered += 1
                    _call(head.then, None)
            return
        for handler in self._handlers(kind):
            try:
                handler(frame)
            except Exception:
                log.exception("handling a push of kind %r failed", kind)

    def _end(self, why: str, cause: BaseException | None) -> None:
        if not self.gone:
            self.gone = True
            self._lost(self, why, cause)


class _Confirmations:
    """The callback of a command that is answered by one push for each of its channels, or by one error."""

    __slots__ = ("left", "then")

    def __init__(self, then: Then, pushes: int) -> None:
        self.then, self.left = then, pushes

    def __call__(self, reply: Reply) -> object:
        return self.then(reply)


def _is_push(frame: list[Any]) -> bool:
    return bool(frame) and frame[0] in _SUBSCRIBER_FRAMES


def _call(then: Then, reply: Reply) -> None:
    try:
        then(reply)
    except Exception:
        log.exception("handling an answer failed")
