"""Moving tasks that are due from the schedule to their queues: done by every process that consumes.

The schedule's consumer hands out each task at once; one that is not due is given back until it is. What is
forwarded twice, because its acknowledgement was lost, is recognised by the stream.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import orjson

from tranship.envelope import Priority
from tranship.errors import TranshipError
from tranship.protocol import epoch_of
from tranship_nats._asks import Answer, Round
from tranship_nats._context import Context
from tranship_nats._errors import error_in, no_responders
from tranship_nats._frames import frame, headers_of, status_of
from tranship_nats._ghosts import Place
from tranship_nats._held import ACK, NAK, acknowledgement
from tranship_nats._levels import made
from tranship_nats._message import DUE, NOT_BEFORE, copied

__all__ = ["NAME", "Forwarder"]

log = logging.getLogger("tranship.nats")

NAME: Final = "forward"
LEASE: Final = 5.0
"""Seconds after which what a forwarder did not deal with goes to another one."""
BATCH: Final = 500
WAIT: Final = 5.0
LATE: Final = 1.0
FARTHEST: Final = 86_400.0
"""Seconds for which a task is given back at most: the server's clock of nanoseconds ends after 292 years."""
_LEVELS: Final = frozenset(b"%d" % level.value for level in Priority)
AGAIN: Final = 1.0
"""Seconds until a task is tried again that could not be forwarded."""


class Forwarder:
    """The forwarder of one backend. Started once, it follows the connection."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._loop = asyncio.get_running_loop()
        self._inbox = f"{ctx.link.inbox}.d"
        self._number = 0
        self._left = 0
        self._sid = self._generation = 0
        self._timer: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None
        self._started = self._closed = False

    def start(self) -> None:
        """Forward from now on; repeated, it does nothing."""
        if not self._started and not self._closed:
            self._started = True
            self._ctx.link.hooks.on_up(self._connected)
            self._begin()

    def close(self) -> None:
        """Ask for nothing any more."""
        self._closed = True
        self._stop()
        if self._starting is not None:
            self._starting.cancel()

    async def aclose(self) -> None:
        """The same, and wait for what is under way."""
        self.close()
        if self._starting is not None:
            await asyncio.wait({self._starting})

    async def _connected(self) -> None:
        self._stop()
        self._begin()

    def _begin(self) -> None:
        if not self._closed and (self._starting is None or self._starting.done()):
            self._starting = self._loop.create_task(self._open())

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._ctx.link.unlisten(self._sid, self._generation)

    async def _open(self) -> None:
        ctx = self._ctx
        try:
            stream = await ctx.streams.need("delay")
            # Every task that is not due counts as pending.
            await made(ctx.api, stream, NAME, ctx.names.delayed_of(), ack_wait=LEASE, pending=-1)
            ctx.ghosts.look(Place(stream, NAME, ctx.names.delayed_of()))
            await self._read_clock()
            self._pull()
        except TranshipError as error:
            log.warning("tasks that are due are not forwarded, trying again in %g s: %s", WAIT, error)
            self._timer = self._loop.call_later(WAIT, self._begin_again)

    async def _read_clock(self) -> None:
        """Tasks are due by the server's clock; where it may not be asked, by ours."""
        try:
            await self._ctx.streams.need("work")
            await self._ctx.streams.need("workers")
            await self._ctx.clock.read()
        except TranshipError as error:
            log.debug("what time it is at the server is not known: %s", error)

    def _begin_again(self) -> None:
        self._starting = None
        self._begin()

    # Pulling.

    def _pull(self) -> None:
        """Ask for the next tasks, under an inbox that earlier pulls do not have."""
        link = self._ctx.link
        self._stop()
        if self._closed or not link.up:
            return
        self._number += 1
        inbox = f"{self._inbox}.{self._number}"
        self._sid, self._generation = link.listen(inbox, self._heard), link.generation
        self._left = BATCH
        names = self._ctx.names
        verb = f"{names.api}.CONSUMER.MSG.NEXT.{names.delay}.{NAME}".encode()
        request = orjson.dumps({"batch": BATCH, "expires": round(WAIT * 1e9)})
        link.post(frame(verb, inbox.encode(), b"", request))
        self._timer = self._loop.call_later(WAIT + LATE, self._pull)

    def _heard(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        if reply:
            self._left -= 1
            self._task(subject, reply, data, block)
            if not self._left:
                self._pull()
            return
        status = status_of(block)
        if status in (404, 408):
            self._pull()
        elif status != 100:
            # The consumer, or its stream, has gone, or the server leaves.
            self._stop()
            self._ctx.streams.found.pop("delay", None)
            self._timer = self._loop.call_later(AGAIN, self._begin_again)

    # Forwarding.

    def _task(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        rest = _due(block) - self._ctx.clock.now()
        if rest > 0:
            self._give_back(reply, rest)
            return
        told = acknowledgement(reply)
        if told is None:
            return  # from no stream
        _, seq = told
        headers = copied(block, msg_id=b"%b%d" % (DUE, seq))
        round_ = Round(1, lambda answers: self._forwarded(reply, answers[0]))
        self._ctx.link.ask(round_, 0, (self._target(subject), headers, data))

    def _target(self, subject: bytes) -> bytes:
        root = self._ctx.names.root
        queue, _, rest = subject[len(root) + 3 :].partition(b".")
        level = rest.partition(b".")[0]
        if level not in _LEVELS:  # from somebody who does not know our subjects
            level = b"%d" % Priority.NORMAL.value
        return b"%b.t.%b.%b" % (root.encode(), queue, level)

    def _forwarded(self, reply: bytes, answer: Answer) -> None:
        if isinstance(answer, TranshipError) or not self._ctx.link.up:
            return  # it comes again
        if no_responders(answer[0]) or error_in(answer[1]) is not None:
            log.warning("a task that is due cannot be queued, trying again in %g s: %s", AGAIN, error_in(answer[1]))
            self._give_back(reply, AGAIN)
        else:
            self._ctx.link.post(frame(reply, b"", b"", ACK))

    def _give_back(self, reply: bytes, seconds: float) -> None:
        delay = b'%b {"delay": %d}' % (NAK, max(1_000_000, round(min(seconds, FARTHEST) * 1e9)))
        self._ctx.link.post(frame(reply, b"", b"", delay))


def _due(block: bytes | None) -> float:
    """Return when a task is due; at once where that cannot be read: the core decides again on receipt."""
    return epoch_of(headers_of(block).get(NOT_BEFORE)) or 0.0
