"""The link: what is asked and published over one connection that comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from tranship.envelope import new_id
from tranship.errors import BrokerRefused, BrokerUnreachable, TranshipError
from tranship_nats._asks import Answer, Ask, Pending, Round, too_large
from tranship_nats._client import Connection, Handler
from tranship_nats._dial import Dialler
from tranship_nats._errors import Lost
from tranship_nats._frames import NO_HEADERS, frame
from tranship_nats._lifeline import Lifeline
from tranship_nats._options import NatsOptions

__all__ = ["Link"]

log = logging.getLogger("tranship.nats")

DEFAULT_PAYLOAD: Final = 1 << 20


class Link(Lifeline):
    """Requests, publishes and subscriptions. On one loop; nothing of it is for several threads.

    Args:
        dialler: opens connections.
        options: of the URL.
    """

    def __init__(self, dialler: Dialler, options: NatsOptions) -> None:
        super().__init__(dialler)
        self.inbox = f"{options.inbox_prefix}.{new_id().replace('-', '')}"
        """Subjects that begin with this one are ours alone, over all generations."""
        self._timeout = options.command_timeout
        self._pending = Pending(self.place, f"{self.inbox}.a.".encode(), options.command_timeout)
        self._out: list[bytes] = []

    async def aclose(self) -> None:
        """Send what was handed over, and close. Idempotent."""
        await super().aclose()
        self._pending.close()

    @property
    def max_payload(self) -> int:
        """The server's limit on headers and payload of a message, in bytes."""
        return DEFAULT_PAYLOAD if self._connection is None else self._connection.max_payload

    # Sending.

    def ask(self, round_: Round, index: int, ask: Ask) -> None:
        """Send a request; its answer goes to ``round_``, later. Only while :attr:`up`."""
        size = len(ask[1]) + len(ask[2])
        if size > self.max_payload:
            # The server would drop the connection.
            asyncio.get_running_loop().call_soon(round_.answer, index, too_large(size, self.max_payload))
            return
        self.post(frame(ask[0], self._pending.add(round_, index, ask[0]), ask[1], ask[2]))

    def post(self, data: bytes) -> None:
        """Send a frame with what else is sent in this turn of the loop."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._write)
        self._out.append(data)

    def publish(self, subject: bytes, payload: bytes, headers: bytes = NO_HEADERS) -> None:
        """Send a message that nobody confirms."""
        self.post(frame(subject, b"", headers, payload))

    async def request(self, subject: str, payload: bytes = b"", headers: bytes = NO_HEADERS) -> tuple[bytes, bytes]:
        """Send one request; return the block of headers and the payload of its answer.

        Raises:
            BrokerUnreachable: no connection; or it was lost, or nobody answered, and the outcome is unknown.
            BrokerRefused: this user may not publish to the subject.
        """
        (answer,) = await self.ask_all([(subject.encode(), headers, payload)])
        if isinstance(answer, TranshipError):
            raise answer
        return answer[0] or b"", answer[1]

    async def ask_all(self, asks: Sequence[Ask]) -> list[Answer]:
        """Send requests at once; return their answers in order.

        Raises:
            BrokerUnreachable: no connection; nothing was sent.
        """
        if not asks:
            return []
        if self._connection is None:
            raise self.down()
        answers: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()

        def then(found: list[Answer]) -> None:
            if not answers.done():
                answers.set_result(found)

        round_ = Round(len(asks), then)
        for index, ask in enumerate(asks):
            self.ask(round_, index, ask)
        return await answers

    def listen(self, subject: str, handler: Handler) -> int:
        """Subscribe on this connection; a further one knows nothing of it. Return the subscription's number.

        Raises:
            BrokerUnreachable: no connection.
        """
        return self.connection.listen(subject.encode(), handler)

    def unlisten(self, sid: int, generation: int) -> None:
        """Take back a subscription that was made in ``generation``."""
        if self._connection is not None and generation == self.generation:
            self._write()
            self._connection.unlisten(sid)

    def leave(self, sid: int, generation: int) -> None:
        """The same, but its handler still gets what is under way."""
        connection = self._connection
        if connection is not None and generation == self.generation:
            self._write()
            connection.unlisten(sid, later=True)
            connection.pong().add_done_callback(lambda _pong: connection.forget(sid))

    async def settled(self) -> bool:
        """Return when the server has dealt with everything sent so far; False: not in time, or lost."""
        connection = self._connection
        if connection is None:
            return False
        self._write()
        pong = connection.pong()
        done, _ = await asyncio.wait({pong}, timeout=self._timeout)
        return bool(done) and not pong.cancelled()

    def _write(self) -> None:
        if self._out and self._connection is not None:
            data = b"".join(self._out) if len(self._out) > 1 else self._out[0]
            self._out.clear()
            self._connection.write(data)

    # What becomes of the connection.

    def _made(self, connection: Connection) -> None:
        connection.listen(self._pending.inbox + b"*", self._pending.answered)

    def _flush(self) -> None:
        self._write()

    def _gone(self, error: TranshipError) -> None:
        self._out.clear()
        lost = Lost(str(error)) if isinstance(error, BrokerUnreachable) else error
        lost.__cause__ = error.__cause__
        self._pending.fail(lost)

    def _denied(self, text: str) -> None:
        """The server does not let this user use a subject."""
        if self.inbox.lower() in text and "subscription" in text:
            # Nothing would ever be answered.
            self._reason = BrokerRefused(
                f"{self.place} said {text}: let this user subscribe to it, or set inbox_prefix"
            )
            self._pending.fail(self._reason)
        elif not self._pending.denied(text):
            log.warning("%s said %s: grant this user the subject", self.place, text)
