"""Asking for messages: a sweep takes what is there, a wait is woken by what comes.

A pull cannot be called back. It dies with its inbox, so each wait has an inbox of its own; what was under way when
that was left still arrives, and is kept. A sweep's pulls are always answered; where the server forgets one, its inbox
is left, too: a pull that nobody remembers would take a message out of the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from tranship.ports import ConnectionEvent
from tranship_nats._api import Api
from tranship_nats._asks import Round
from tranship_nats._frames import frame, status_of
from tranship_nats._held import Pair, Taken, acknowledgement
from tranship_nats._link import Link
from tranship_nats._tidy import asks_about

__all__ = ["Pulls"]

SWEEP: Final = 2.0
"""Seconds for which the answers of a sweep may be missing."""
LONGEST: Final = 5.0
"""Seconds that a pull waits at the server: one that gets lost there without a word is made again after that."""
LATE: Final = 1.0
"""Seconds that the end of a wait may be late."""


class _Inbox:
    """A subscription for the answers of some pulls."""

    __slots__ = ("generation", "name", "sid")

    def __init__(self, name: str, sid: int, generation: int) -> None:
        self.name = name
        self.sid = sid
        self.generation = generation


class Pulls:
    """The pulls of one consumer.

    Args:
        link: the backend's.
        pairs: what may be asked for.
        keep: gets each message that comes.
        api: of the same link.
    """

    def __init__(self, link: Link, pairs: Sequence[Pair], keep: Callable[[Taken], None], api: Api) -> None:
        self._link = link
        self._api = api
        self._pairs = list(pairs)
        self._by_subject = {pair.subject: pair for pair in pairs}
        self._keep = keep
        self._numbers = 0
        self._sweeping: _Inbox | None = None
        self._left: dict[bytes, int] = {}
        """Pulls of the sweep that are not answered, by the end of their reply subject: how many messages may come."""
        self._of_pair: dict[Pair, bytes] = {}
        self._swept: asyncio.Future[None] | None = None
        self._woken: asyncio.Future[bool] | None = None
        self._asked: Sequence[Pair] = ()
        self._waiting: set[bytes] = set()
        """Pulls of the wait that are not answered, by their place in what was asked for."""
        self._inbox = f"{link.inbox}.p{id(self):x}"
        self._remove = link.hooks.on_event(self._on_event)
        self.troubled = False
        """A pull was answered with an error: look after the consumers."""

    async def sweep(self, wanted: Sequence[tuple[Pair, int]]) -> bool:
        """Ask for messages that are there; return when all have come. False: nothing was heard."""
        if not await self._last_sweep():
            return False
        inbox = self._sweep_inbox()
        self._numbers += 1
        for pair, batch in wanted:
            suffix = b"%d.%d" % (self._numbers, self._pairs.index(pair))
            self._left[suffix] = batch
            self._of_pair[pair] = suffix
            reply = inbox.name.encode() + b"." + suffix
            self._link.post(frame(pair.pull, reply, b"", b'{"batch":%d,"no_wait":true}' % batch))
        self._swept = asyncio.get_running_loop().create_future()
        return await self._last_sweep()

    async def wait(self, pairs: Sequence[Pair], seconds: float) -> bool:
        """Return as soon as a message has come, at the latest after ``seconds``. False: nothing was heard."""
        loop = asyncio.get_running_loop()
        seconds = min(seconds, LONGEST)
        woken = self._woken = loop.create_future()
        inbox = self._listen("w", self._wait_answered)
        self._asked = pairs
        self._waiting = {b"%d" % number for number in range(len(pairs))}
        request = orjson.dumps({"batch": 1, "expires": max(1_000_000, round(seconds * 1e9))})
        for number, pair in enumerate(pairs):
            self._link.post(frame(pair.pull, f"{inbox.name}.{number}".encode(), b"", request))
        timer = loop.call_later(seconds + LATE, _resolve, woken, False)
        try:
            return bool(await woken)
        finally:
            timer.cancel()
            self._woken = None
            self._link.leave(inbox.sid, inbox.generation)
            self._tidy([pairs[int(number)] for number in self._waiting])

    def wake(self) -> None:
        """End a wait."""
        if self._woken is not None:
            _resolve(self._woken, True)

    async def aclose(self) -> None:
        """Ask for nothing any more; what is under way has come when this returns."""
        self._remove()
        self.wake()
        if self._sweeping is not None:
            self._link.leave(self._sweeping.sid, self._sweeping.generation)
            self._sweeping = None
        if self._link.up:
            await self._link.settled()

    # Sweeping.

    async def _last_sweep(self) -> bool:
        """Wait for the answers of the last sweep, which may be one that was cancelled."""
        swept = self._swept
        if swept is None:
            return True
        if not swept.done():
            await asyncio.wait({swept}, timeout=SWEEP)
        self._swept = None
        if swept.done() and not self._left:
            return True
        self._left.clear()
        self._of_pair.clear()
        if self._sweeping is not None:
            self._link.leave(self._sweeping.sid, self._sweeping.generation)
            self._sweeping = None
        return False

    def _sweep_inbox(self) -> _Inbox:
        if self._sweeping is None or self._sweeping.generation != self._link.generation:
            self._sweeping = self._listen("s", self._sweep_answered)
        return self._sweeping

    def _sweep_answered(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        if reply:
            pair = self._take(subject, reply, data, block)
            suffix = self._of_pair.get(pair) if pair is not None else None
            if suffix is not None and suffix in self._left:
                self._left[suffix] -= 1
                if not self._left[suffix]:
                    del self._left[suffix]
        else:
            self._note(status_of(block))
            self._left.pop(b".".join(subject.rsplit(b".", 2)[1:]), None)
        if not self._left and self._swept is not None:
            _resolve(self._swept, None)

    # Waiting.

    def _wait_answered(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        if reply:
            pair = self._take(subject, reply, data, block)
            self._waiting = {number for number in self._waiting if self._asked[int(number)] is not pair}
            self.wake()
            return
        self._note(status_of(block))
        self._waiting.discard(subject.rsplit(b".", 1)[1])
        if not self._waiting:
            self.wake()

    def _tidy(self, pairs: Sequence[Pair]) -> None:
        """Let the server forget the pulls that were left."""
        if pairs and self._link.up:
            asks = asks_about(self._api.prefix, [pair.place for pair in pairs])
            round_ = Round(len(asks), lambda _answers: None)
            for index, ask in enumerate(asks):
                self._link.ask(round_, index, ask)

    # Both.

    def _take(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> Pair | None:
        pair = self._by_subject.get(subject)
        told = acknowledgement(reply)
        if pair is None or told is None:
            return None
        self._keep(Taken(pair, reply, told, block, data, at=asyncio.get_running_loop().time()))
        return pair

    def _note(self, status: int) -> None:
        # 404: nothing there, 408: nothing came; 409: the server or the consumer has gone, 503: nobody answers.
        if status not in (404, 408, 100):
            self.troubled = True

    def _listen(self, kind: str, handler: Callable[[bytes, bytes, bytes, bytes | None], None]) -> _Inbox:
        self._numbers += 1
        name = f"{self._inbox}.{kind}{self._numbers}"
        return _Inbox(name, self._link.listen(f"{name}.>", handler), self._link.generation)

    def _on_event(self, event: ConnectionEvent, _generation: int) -> None:
        if event is ConnectionEvent.LOST:
            self._left.clear()
            self._of_pair.clear()
            self._sweeping = None
            if self._swept is not None:
                _resolve(self._swept, None)
            self.wake()


def _resolve(future: asyncio.Future[object] | asyncio.Future[bool] | asyncio.Future[None], value: object) -> None:
    if not future.done():
        future.set_result(value)  # type: ignore[arg-type]  # each kind with its own
