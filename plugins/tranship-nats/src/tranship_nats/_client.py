"""One connection: nats-py dials, authenticates, parses and pings; messages then take our own short way.

This is the only file that knows what nats-py keeps to itself. Three things cannot be had otherwise: an answer per
message without a task and a queue in between, a loss that is told at once, and ``tls://`` that is never plain.
A connection that is lost is done with: nats-py's reconnecting would send again what we have reported as unknown, and
gives up for good on errors that pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

import nats.aio.client
import nats.errors

__all__ = ["Client", "DialFailed", "Plain"]

log = logging.getLogger("tranship.nats")

Handler = Callable[[bytes, bytes, bytes, bytes | None], None]
"""Gets subject, reply, payload and the block of headers of each message."""
_PERMISSIONS: Final = "permissions violation"
_PING: Final = b"PING\r\n"


class DialFailed(Exception):
    """Connecting failed; the cause says why. nats-py would go on trying otherwise."""


class Plain(Exception):
    """The server wants to speak without TLS."""


class Client(nats.aio.client.Client):
    """A connection that calls back.

    Args:
        encrypted: refuse a server that speaks without TLS, before anything secret is sent.
        on_lost: called once with the reason when the connection has ended by itself.
        on_denied: called with the server's words when a subject is not allowed.
    """

    def __init__(
        self, *, encrypted: bool, on_lost: Callable[[Exception], None], on_denied: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._encrypted = encrypted
        self._on_lost = on_lost
        self._on_denied = on_denied
        self._handlers: dict[int, Handler] = {}
        self._up = self._ended = False

    async def dial(self, server: str, **options: Any) -> None:
        """Connect to ``server``, once.

        Raises:
            DialFailed: it failed, with the reason as its cause.
        """
        await self.connect(
            [server], allow_reconnect=False, max_outstanding_pings=2, error_cb=self._trouble, pedantic=False, **options
        )
        if not self.is_connected:
            raise DialFailed from nats.errors.UnexpectedEOF()
        self._up = True

    def handled(self, handler: Handler) -> int:
        """Return the number of a subscription for whose messages ``handler`` is called, on the loop."""
        self._sid += 1
        self._handlers[self._sid] = handler
        return self._sid

    def forget(self, sid: int) -> None:
        """Call the handler of ``sid`` no more."""
        self._handlers.pop(sid, None)

    def write(self, data: bytes) -> None:
        """Send ``data``; buffered without a bound where the server does not read."""
        if not self._ended and self._transport:
            self._transport.write(data)

    def pong(self) -> asyncio.Future[Any]:
        """Send a PING; the future is done when everything before it has been dealt with. Do not cancel it."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pongs.append(answer)
        self.write(_PING)
        return answer

    @property
    def tls(self) -> bool:
        """Whether the server speaks TLS."""
        return bool(self._server_info.get("tls_required"))

    @property
    def cluster(self) -> str:
        """The cluster that the server belongs to; empty: none."""
        return str(self._server_info.get("cluster", ""))

    async def end(self) -> None:
        """Close at once, without a goodbye. Idempotent."""
        self._ended = True
        self._handlers.clear()
        self._pending.clear()
        self._pending_data_size = 0
        self._abort()
        # nats-py would wait for its end, and one that failed in its TLS handshake tells nobody of that.
        self._transport = None
        if not self.is_closed:
            with contextlib.suppress(OSError, nats.errors.Error):
                await self._close(self.CLOSED, do_cbs=False)
        for pong in self._pongs:
            pong.cancel()

    # What nats-py calls.

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self._handlers.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        try:
            handler(subject, reply, data, headers)
        except Exception:
            # It would end the reading, and nobody would know.
            log.exception("handling a message failed in an unexpected way")

    async def _process_err(self, err_msg: str) -> None:
        if _PERMISSIONS in err_msg:
            self._on_denied(err_msg.strip("'"))
        else:
            self.lose(nats.errors.Error(f"the server said {err_msg}"))

    async def _process_op_err(self, e: Exception) -> None:
        self.lose(e)

    async def _process_pong(self) -> None:
        if self._pongs:
            pong = self._pongs.pop(0)
            if not pong.done():
                pong.set_result(True)
        self._pings_outstanding = 0

    def _connect_command(self) -> bytes:
        if self._encrypted and not self.tls:
            raise Plain
        return super()._connect_command()

    async def _trouble(self, error: Exception) -> None:
        if not self._up and not self._ended:
            raise DialFailed from error
        log.debug("nats-py reports: %r", error)

    def lose(self, error: Exception) -> None:
        """Give the connection up, and say so."""
        if self._up and not self._ended:
            self._ended = True
            self._abort()
            self._on_lost(error)

    def _abort(self) -> None:
        """Drop the socket: closing it in order would wait for a peer that may never read again."""
        transport = self._transport
        for writer in (getattr(transport, "_io_writer", None), getattr(transport, "_bare_io_writer", None)):
            if writer is not None:
                writer.transport.abort()
