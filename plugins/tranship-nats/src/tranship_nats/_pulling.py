"""Asking for messages: a sweep takes what is there, level by level; a wait is woken by what comes.

A pull cannot be called back. It dies with its inbox, so each wait has an inbox of its own; what was under way when
that was left still arrives, and is kept for the next take. A sweep's pulls are always answered; where the server
forgets one, its inbox is left, too: a pull that nobody remembers would take a message out of the queue.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count, groupby
from typing import Final

import orjson

from tranship_nats._connection import NatsConnection
from tranship_nats._consumers import Place
from tranship_nats._delivery import Token
from tranship_nats._jetstream import nanos
from tranship_nats._message import frame, status_of

__all__ = ["Inbox", "Pull"]

SWEEP: Final = 2.0
"""Seconds for which the answers of a sweep may be missing."""
LONGEST: Final = 5.0
"""Seconds that a pull waits at the server: one that gets lost there without a word is made again after that."""
LATE: Final = 1.0
"""Seconds that the end of a wait may be late."""

Read = Callable[[Place, bytes, bytes | None, bytes], Token | None]
"""Makes the token of a message from place, reply subject, headers and payload; None: we have had it."""


class Inbox:
    """A subscription for the answers of some pulls.

    Args:
        connection: what they go over.
        late: gets what comes while no take uses it.
    """

    _numbers = count()

    def __init__(self, connection: NatsConnection, late: Callable[[bytes, bytes, bytes, bytes | None], None]) -> None:
        self.name = f"{connection.inbox}.p.{next(self._numbers)}"
        self.heard = self._late = late
        self._connection = connection
        self._sid = connection.listen(f"{self.name}.>", self._came)

    def _came(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        self.heard(subject, reply, data, block)

    def rest(self) -> None:
        """No take uses it."""
        self.heard = self._late

    def leave(self, *, late: bool = True) -> None:
        """Let its pulls die; what is under way still comes: to nobody, or to the take that used it."""
        if late:
            self.rest()
        self._connection.leave(self._sid)


class Pull:
    """The pulls of one take.

    Args:
        connection: what they go over.
        places: what may be asked for, the most urgent level first.
        inbox: where the answers come to.
        read: makes tokens.

    Attributes:
        tokens: what has come.
        troubled: places whose pull was answered with an error: their consumers are to be looked after.
        open: places whose pull is not answered, with the number of messages that may come.
    """

    def __init__(self, connection: NatsConnection, places: Sequence[Place], inbox: Inbox, read: Read) -> None:
        self._connection, self._places, self._inbox, self._read = connection, places, inbox, read
        self._by_subject = {place.subject: place for place in places}
        self.tokens: list[Token] = []
        self.open: dict[Place, int] = {}
        self.troubled: set[Place] = set()
        self._came: Counter[Place] = Counter()
        """Messages of this round, be it that we have had them."""
        self._round = 0
        self._enough: Callable[[], bool] = lambda: not self.open
        self._interrupted = False
        self._done: asyncio.Future[None] | None = None
        inbox.heard = self._heard

    async def sweep(self, limit: int) -> bool:
        """Take what is there up to ``limit``, level by level; whether the server answered."""
        for _, places in groupby(self._places, key=lambda place: place.slot[1]):
            if not await self._sweep_level(list(places), limit):
                return False
        return True

    async def _sweep_level(self, places: list[Place], limit: int) -> bool:
        while places and (missing := limit - len(self.tokens)) > 0:
            share, more = divmod(missing, len(places))
            wanted = {place: share + (at < more) for at, place in enumerate(places) if share or at < more}
            before = dict(wanted)
            requests = {place: b'{"batch":%d,"no_wait":true}' % batch for place, batch in wanted.items()}
            if not await self._ask(wanted, requests, SWEEP, lambda: not self.open):
                self.troubled.update(self.open)
                return False
            # Behind what we have had before there may be more.
            places = [place for place in places if place in before and self._came[place] >= before[place]]
        return True

    async def wait(self, seconds: float) -> bool:
        """Return as soon as a message has come, at the latest after ``seconds``. False: nothing was heard."""
        if self._interrupted:
            return True
        seconds = min(seconds, LONGEST)
        request = orjson.dumps({"batch": 1, "expires": max(1_000_000, nanos(seconds))})
        wanted = dict.fromkeys(self._places, 1)
        requests = dict.fromkeys(self._places, request)
        # One that we have had before used its pull up, too: without another one nothing else would come of its level.
        return await self._ask(wanted, requests, seconds + LATE, self._has_waited)

    def _has_waited(self) -> bool:
        return bool(self._came) or self._interrupted or not self.open

    async def _ask(
        self, wanted: dict[Place, int], requests: dict[Place, bytes], seconds: float, enough: Callable[[], bool]
    ) -> bool:
        """Send pulls; return once ``enough`` is, or the connection is lost. False: nothing was heard in time."""
        self._round += 1
        self.open, self._enough = dict(wanted), enough
        self._came.clear()
        done = self._done = asyncio.get_running_loop().create_future()
        for place, request in requests.items():
            reply = f"{self._inbox.name}.{self._round}.{self._places.index(place)}".encode()
            self._connection.post(frame(place.pull, reply, b"", request))
        timer = asyncio.get_running_loop().call_later(seconds, _resolve, done)
        try:
            await done
        finally:
            timer.cancel()
            self._done = None
        return enough() and not self._connection.lost.done()

    def interrupt(self) -> None:
        """End the waiting, now or as soon as it begins: something else is wanted."""
        self._interrupted = True
        if self._enough():
            self.wake()

    def wake(self, _lost: object = None) -> None:
        """End what is waited for: the connection is lost."""
        if self._done is not None:
            _resolve(self._done)

    def _heard(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        if reply:
            if (place := self._by_subject.get(subject)) is None:
                return
            self._came[place] += 1
            left = self.open.get(place, 1) - 1
            self.open[place] = left
            if not left:
                del self.open[place]
            if (token := self._read(place, reply, block, data)) is not None:
                self.tokens.append(token)
        else:
            self._status(subject, status_of(block))
        if self._enough():
            self.wake()

    def _status(self, subject: bytes, status: int) -> None:
        *_, round_, at = subject.split(b".")
        place = self._places[int(at)]
        if int(round_) == self._round and status != 100:
            self.open.pop(place, None)
        # 404: nothing there, 408: nothing came; 409: the server or the consumer has gone, 503: nobody answers.
        if status not in (404, 408, 100):
            self.troubled.add(place)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
