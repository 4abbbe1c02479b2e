"""The schedule: tasks that are not due, and moving them to their queues, which every process does that takes.

The schedule's consumer hands out each task at once; one that is not due is given back until it is. What is moved twice,
because its acknowledgement was lost, is recognised by the stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import orjson

from tranship.driver import End, Stored, Taken
from tranship.envelope import Priority
from tranship.errors import TranshipError
from tranship.ports import Settled
from tranship.protocol import epoch_of, whole_of
from tranship_nats._broker import Broker
from tranship_nats._connection import Answer, Ask
from tranship_nats._consumers import made
from tranship_nats._delivery import ACK, NAK, Token, Told, seen_as, told_by
from tranship_nats._errors import MESSAGE_MISSING, SEQUENCE_MISSING, STREAM_MISSING, error_in, no_responders
from tranship_nats._jetstream import JetStream, Seen, checked, moment, nanos
from tranship_nats._message import NOT_BEFORE, copied, frame, headers_of, moved_id, status_of
from tranship_nats._repair import Durable, Repair
from tranship_nats._streams import Streams

__all__ = ["NAME", "Schedule", "server_time"]

log = logging.getLogger("tranship.nats")

NAME: Final = "forward"
LEASE: Final = 5.0
"""Seconds after which what one process did not deal with goes to another one."""
BATCH: Final = 500
WAIT: Final = 5.0
LATE: Final = 1.0
FARTHEST: Final = 86_400.0
"""Seconds for which a task is given back at most: the server's clock of nanoseconds ends after 292 years."""
AGAIN: Final = 1.0
"""Seconds until a task is tried again that could not be moved."""
_LEVELS: Final = frozenset(b"%d" % level.value for level in Priority)


class Schedule:
    """The schedule over one connection.

    Args:
        broker: what is known beyond the connection.
        js: over the connection.
        streams: over the connection.
    """

    def __init__(self, broker: Broker, js: JetStream, streams: Streams, repair: Repair) -> None:
        self._broker, self._js, self._streams, self._connection = broker, js, streams, js.connection
        self._repair = repair
        self._loop = asyncio.get_running_loop()
        self._number = self._left = 0
        self._sid: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._starting: asyncio.Task[None] | None = None
        self._picked: dict[int, Token] = {}
        """What was taken before it is due, and is not ended."""
        js.connection.on_close.append(self._close)

    # Moving what is due.

    def start(self) -> None:
        """Move what is due from now on; repeated, it does nothing."""
        if self._starting is None:
            self._starting = self._loop.create_task(self._open())

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._starting is not None:
            self._starting.cancel()

    async def _open(self) -> None:
        names = self._broker.names
        try:
            stream = await self._streams.need("delay")
            # Every task that is not due counts as pending.
            await made(self._js, stream, NAME, names.delayed_of(), ack_wait=LEASE, pending=-1)
            self._repair.look(Durable(stream, NAME, names.delayed_of()))
            await self._read_clock()
            self._pull()
        except TranshipError as error:
            log.warning("tasks that are due are not moved, trying again in %g s: %s", WAIT, error)
            self._begin_again(WAIT)

    async def _read_clock(self) -> None:
        """Tasks are due by the server's clock; where it may not be asked, by ours."""
        try:
            await self._streams.need("work")
            await self._streams.need("workers")
            asked = time.time()
            there = await server_time(self._broker, self._js, self._streams)
            if there is not None:
                self._broker.clock.read(asked, there)
        except TranshipError as error:
            log.debug("what time it is at the server is not known: %s", error)

    def _begin_again(self, seconds: float) -> None:
        def begin() -> None:
            self._starting = None
            self.start()

        self._timer = self._loop.call_later(seconds, begin)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._sid is not None:
            self._connection.unlisten(self._sid)
            self._sid = None

    def _pull(self) -> None:
        """Ask for the next tasks, under an inbox that earlier pulls do not have."""
        self._stop()
        if self._connection.lost.done():
            return
        self._number += 1
        inbox = f"{self._connection.inbox}.d.{self._number}"
        self._sid, self._left = self._connection.listen(inbox, self._heard), BATCH
        names = self._broker.names
        verb = f"{names.api}.CONSUMER.MSG.NEXT.{names.delay}.{NAME}".encode()
        request = orjson.dumps({"batch": BATCH, "expires": nanos(WAIT)})
        self._connection.post(frame(verb, inbox.encode(), b"", request))
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
            self._streams.found.pop("delay", None)
            self._begin_again(AGAIN)

    def _task(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        rest = _due(block) - self._broker.clock.now()
        if rest > 0:
            self._put_off(reply, rest)
        elif (told := told_by(reply)) is not None:
            ask = self._moving(subject, told.seq, block, data)
            self._connection.ask([ask], lambda answers: self._moved(reply, answers[0]))

    def _moving(self, subject: bytes, seq: int, block: bytes | None, data: bytes) -> Ask:
        """Return what sends a message of the schedule to its queue."""
        root = self._broker.names.root
        queue, _, rest = subject[len(root) + 3 :].partition(b".")
        level = rest.partition(b".")[0]
        if level not in _LEVELS:  # from somebody who does not know our subjects
            level = b"%d" % Priority.NORMAL.value
        return b"%b.t.%b.%b" % (root.encode(), queue, level), copied(block, msg_id=moved_id(seq)), data

    def _moved(self, reply: bytes, answer: Answer) -> None:
        if isinstance(answer, TranshipError):
            return  # it comes again
        if no_responders(answer[0]) or error_in(answer[1]) is not None:
            log.warning("a task that is due cannot be queued, trying again in %g s: %s", AGAIN, error_in(answer[1]))
            self._put_off(reply, AGAIN)
        else:
            self._connection.post(frame(reply, b"", b"", ACK))

    def _put_off(self, reply: bytes, seconds: float) -> None:
        delay = b'%b {"delay": %d}' % (NAK, max(1_000_000, nanos(min(seconds, FARTHEST))))
        self._connection.post(frame(reply, b"", b"", delay))

    # What is not due.

    async def find(self, ids: Sequence[str]) -> list[Stored]:
        """Return the tasks with these ids."""
        if not ids:
            return []
        stream = await self._streams.need("delay")
        found = [
            seen for one in ids async for seen in self._js.walk(stream, self._broker.names.delayed_of(task_id=one))
        ]
        return [self._stored(seen) for seen in found]

    async def scan(self, queue: str, limit: int) -> list[Stored]:
        """Return the first tasks of a queue, the earliest first, without those that were taken."""
        stream = await self._streams.need("delay")
        subjects = sorted(await self._js.subjects(stream, self._broker.names.delayed_of(queue=queue)), key=_due_of)
        self._picked = {seq: token for seq, token in self._picked.items() if not token.done}
        found: list[Stored] = []
        while subjects and len(found) < limit:
            part, subjects = subjects[:limit], subjects[limit:]
            seen = await self._js.get_all([(stream, {"last_by_subj": subject}) for subject in part])
            found += [self._stored(one) for one in seen if one is not None and one.seq not in self._picked]
        return found[:limit]

    async def pick(self, refs: Sequence[Seen]) -> list[Taken]:
        """Take what is there still. There is no lease on it: it stays until it is ended, and goes to its queue if it
        becomes due before that; its end is then answered with LOST.
        """
        stream = await self._streams.need("delay")
        seen = await self._js.get_all([(stream, {"seq": one.seq}) for one in refs])
        return [self._taken(one) for one in seen if one is not None and one.seq not in self._picked]

    async def end(self, token: Token, end: End) -> Settled | TranshipError:
        """End what was taken before it is due: remove it, leave it, or, requeued, send it to its queue at once."""
        self._picked.pop(token.told.seq, None)
        token.done = True
        if end is End.RELEASE:
            return Settled.CONFIRMED
        seq, stream = token.told.seq, self._broker.names.delay
        try:
            if end is End.REQUEUE:
                subject = self._broker.names.task(*token.slot).encode()
                copy = subject, copied(token.block, msg_id=moved_id(seq)), token.data
                self._streams.stored("work", (await self._connection.ask_all([copy]))[0])
            (answer,) = await self._connection.ask_all([self._js.deleting(stream, seq)])
            data = checked(answer, f"{self._connection.place}: deleting from {stream}", _MISSING)
        except TranshipError as error:
            token.done = False
            return error
        return Settled.CONFIRMED if data else Settled.LOST

    def _stored(self, seen: Seen) -> Stored:
        return seen_as(seen, self._broker.names.place_of(seen.subject), "delayed")

    def _taken(self, seen: Seen) -> Taken:
        slot = self._broker.names.place_of(seen.subject)
        token = Token(slot, Told(1, seen.seq, b""), b"", seen.block, seen.data, float("inf"), "delay")
        self._picked[seen.seq] = token
        return token.taken()


_MISSING: Final = (SEQUENCE_MISSING, MESSAGE_MISSING)


async def server_time(broker: Broker, js: JetStream, streams: Streams) -> float | None:
    """Ask the server what time it is; None: it does not say.

    nats-server says what time it is with each stream that it describes, from 2.10 on. Before, it is seen in the time of
    a message that is stored for the purpose, among the heartbeats: only where workers have made room for those.

    Raises:
        BrokerUnreachable, BrokerRefused.
    """
    info: Any = await js.find(f"STREAM.INFO.{broker.names.work}", STREAM_MISSING)
    if info is None or "ts" in info or "workers" not in streams.found:
        return None if info is None else moment(info.get("ts"))
    probe = broker.names.key("workers", "=clock").encode(), b"", b"{}"
    (answer,) = await js.connection.ask_all([probe])
    stored = await js.get(streams.name("workers"), seq=streams.stored("workers", answer))
    return None if stored is None else stored.time


def _due(block: bytes | None) -> float:
    """Return when a task is due; at once where that cannot be read: the core decides again on receipt."""
    return epoch_of(headers_of(block).get(NOT_BEFORE)) or 0.0


def _due_of(subject: str) -> int:
    return whole_of(subject.rsplit(".", 1)[1]) or 0
