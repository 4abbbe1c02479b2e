"""One connection: requests with their answers, publishes and subscriptions, and what the driver kit uses over it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

from tranship.envelope import new_id
from tranship.errors import BrokerRefused, BrokerUnreachable, MessageTooLarge, TranshipError
from tranship_nats._client import Client, Handler
from tranship_nats._errors import Lost, NoAnswer, again
from tranship_nats._message import frame
from tranship_nats._options import NatsOptions

__all__ = ["Answer", "Ask", "NatsConnection"]

log = logging.getLogger("tranship.nats")

Answer = tuple[bytes | None, bytes] | TranshipError
"""A block of headers and a payload; or why there is no answer."""
Ask = tuple[bytes, bytes, bytes]
"""Subject, block of headers and payload of a request."""
Then = Callable[[list[Answer]], object]

GOODBYE: Final = 1.0
"""Seconds that what was handed over last may take to leave when it is closed."""


class _Round:
    """Requests that are answered together; ``then`` is called once, with the answers in order."""

    __slots__ = ("answers", "left", "then")

    def __init__(self, size: int, then: Then) -> None:
        self.answers: list[Answer] = [(None, b"")] * size
        self.left, self.then = size, then

    def answer(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self.left -= 1
        if not self.left:
            self.then(self.answers)


class NatsConnection:
    """One connection to a server; see :class:`tranship.driver.Connection`.

    Args:
        place: the servers, for messages.
        options: of the URL.
    """

    client: Client

    def __init__(self, place: str, options: NatsOptions) -> None:
        self._loop = asyncio.get_running_loop()
        self.place, self.since = place, time.time()
        self.lost: asyncio.Future[BaseException | None] = self._loop.create_future()
        self.inbox = f"{options.inbox_prefix}.{new_id().replace('-', '')}"
        """Subjects that begin with this one are ours alone."""
        self.on_close: list[Callable[[], object]] = []
        """What works over it beside the verbs, and ends with it."""
        self._timeout = options.command_timeout
        self._answers = f"{self.inbox}.a.".encode()
        self._waiting: dict[bytes, tuple[_Round, int, float, bytes]] = {}
        self._numbers = count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._out: list[bytes] = []
        self._refused: TranshipError | None = None

    def start(self, client: Client) -> None:
        """Use a client that is connected."""
        self.client = client
        self.listen(f"{self.inbox}.a.*", self._answered)

    # What the kit calls.

    @property
    def native(self) -> Client:
        """nats-py's client."""
        return self.client

    async def ping(self) -> None:
        """Return when the server has dealt with everything sent so far."""
        await self.settled()

    def abort(self) -> None:
        """Drop the socket."""
        self.client.lose(TimeoutError(f"{self.place} does not answer"))

    async def aclose(self) -> None:
        """Send what was handed over, and close."""
        for closing in self.on_close:
            closing()
        if not self.lost.done():
            # Bounded: whoever does not answer is left without a goodbye.
            with suppress(TimeoutError, TranshipError):
                async with asyncio.timeout(GOODBYE):
                    await self.settled()
        await self.client.end()
        self.went(ConnectionAbortedError("it was closed"))

    def went(self, error: Exception) -> None:
        """The connection has gone, with everything that was under way."""
        if self.lost.done():
            return
        self.lost.set_result(error)
        self._out.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._fail(self._gone())

    def denied(self, text: str) -> None:
        """The server does not let this user use a subject."""
        if self.inbox.lower() in text and "subscription" in text:
            # Nothing would ever be answered.
            self._refused = BrokerRefused(
                f"{self.place} said {text}: let this user subscribe to it, or set inbox_prefix"
            )
            self._fail(self._refused)
            return
        hit = [number for number, entry in self._waiting.items() if f'"{entry[3].decode().lower()}"' in text]
        for number in hit:
            round_, index, _, subject = self._waiting.pop(number)
            round_.answer(
                index, BrokerRefused(f"{self.place} said {text}: let this user publish to {subject.decode()}")
            )
        if not hit:
            log.warning("%s said %s: grant this user the subject", self.place, text)

    # Sending.

    @property
    def max_payload(self) -> int:
        """The server's limit on headers and payload of a message, in bytes."""
        return self.client.max_payload

    def post(self, data: bytes) -> None:
        """Send a frame with what else is sent in this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._write)
        self._out.append(data)

    def ask(self, asks: Sequence[Ask], then: Then) -> None:
        """Send requests; ``then`` gets their answers, or why there are none, later."""
        if self.lost.done() or self._refused is not None:
            # Not :class:`Lost`: nothing is sent.
            down = self._refused or BrokerUnreachable(f"there is no connection to {self.place}")
            answers: list[Answer] = [again(down) for _ in asks]
            self._loop.call_soon(then, answers)
            return
        round_, deadline = _Round(len(asks), then), self._loop.time() + self._timeout
        for index, (subject, headers, payload) in enumerate(asks):
            size = len(headers) + len(payload)
            if size > self.max_payload:
                # The server would drop the connection.
                self._loop.call_soon(round_.answer, index, _too_large(size, self.max_payload))
                continue
            number = b"%x" % next(self._numbers)
            self._waiting[number] = round_, index, deadline, subject
            self.post(frame(subject, self._answers + number, headers, payload))
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._expire)

    async def ask_all(self, asks: Sequence[Ask]) -> list[Answer]:
        """Send requests at once; return their answers in order."""
        if not asks:
            return []
        answers: asyncio.Future[list[Answer]] = self._loop.create_future()
        self.ask(asks, lambda found: None if answers.done() else answers.set_result(found))
        return await answers

    def listen(self, subject: str, handler: Handler) -> int:
        """Subscribe, before whatever is sent from now on; return the subscription's number."""
        sid = self.client.handled(handler)
        self.post(b"SUB %b  %d\r\n" % (subject.encode(), sid))
        return sid

    def unlisten(self, sid: int) -> None:
        """Take back a subscription."""
        self.post(b"UNSUB %d\r\n" % sid)
        self.client.forget(sid)

    def leave(self, sid: int) -> None:
        """The same, but its handler still gets what is under way."""
        self.post(b"UNSUB %d\r\n" % sid)
        self._write()
        self.client.pong().add_done_callback(lambda _pong: self.client.forget(sid))

    async def settled(self) -> None:
        """Return when the server has dealt with everything sent so far.

        Raises:
            BrokerUnreachable: the connection was lost before.
        """
        self._write()
        pong = self.client.pong()
        await asyncio.wait({pong, self.lost}, return_when=asyncio.FIRST_COMPLETED)
        if not pong.done() or pong.cancelled():
            raise self._gone()

    def _write(self) -> None:
        if self._out:
            data = b"".join(self._out) if len(self._out) > 1 else self._out[0]
            self._out.clear()
            self.client.write(data)

    # Answers.

    def _answered(self, subject: bytes, _reply: bytes, data: bytes, headers: bytes | None) -> None:
        waiting = self._waiting.pop(subject[len(self._answers) :], None)
        if waiting is not None:
            waiting[0].answer(waiting[1], (headers, data))

    def _fail(self, error: TranshipError) -> None:
        waiting, self._waiting = self._waiting, {}
        for round_, index, _, _ in waiting.values():
            round_.answer(index, error)

    def _gone(self) -> TranshipError:
        reason = self.lost.result() if self.lost.done() else None
        error = Lost(f"the connection to {self.place} was lost: {reason or type(reason).__name__}")
        error.__cause__ = reason
        return error

    def _expire(self) -> None:
        """Give up what has waited too long: the first ones, as all wait equally long."""
        self._timer, now = None, self._loop.time()
        late = []
        for number, (_, _, deadline, _) in self._waiting.items():
            if deadline > now:
                self._timer = self._loop.call_at(deadline, self._expire)
                break
            late.append(number)
        for number in late:
            round_, index, _, subject = self._waiting.pop(number)
            text = (
                f"{self.place} has not answered within {self._timeout:g} s on {subject.decode()[:120]}: "
                "a stream without a quorum, a user without rights, or a server that is overloaded"
            )
            round_.answer(index, NoAnswer(text))


def _too_large(size: int, limit: int) -> MessageTooLarge:
    text = f"a message is {size:,} bytes with its headers, the server takes {limit:,}; raise its max_payload"
    return MessageTooLarge(text, size=size, limit=limit)
